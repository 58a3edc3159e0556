"""A spec as a picture in DOT or Mermaid.

Nodes are numbered, never named, and every label is escaped: no name can add to the drawing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from muniment.ring.spec import LaneGraph, SingleRing, Spec

LABEL = 60  # characters of an op in a box
_mermaid = re.compile(r"[^A-Za-z0-9 ._/=,+-]")


class Node(NamedTuple):
    """A box: what it is called in the drawing, its lines, and whether a line ends here (it releases slots)."""

    key: str
    lines: tuple[str, ...]
    last: bool = False


class Edge(NamedTuple):
    """An arrow; `lines` () if it carries no label."""

    source: str
    target: str
    lines: tuple[str, ...] = ()


def _cut(text: str) -> str:
    return text if len(text) <= LABEL else text[: LABEL - 1] + "…"


def _drawing(spec: Spec) -> tuple[list[Node], list[Edge]]:
    if isinstance(spec.pipeline, SingleRing):
        return _ring(spec.pipeline)
    return _graph(spec.pipeline)


def _ring(ring: SingleRing) -> tuple[list[Node], list[Edge]]:
    leaves = ring.leaves
    nodes = [
        Node(f"s{at}", (f"{at} {stage.id}", _cut(str(stage.op))), at in leaves)
        for at, stage in enumerate(ring.stages)
    ]
    edges = [
        Edge(f"s{before}" if before >= 0 else "input", f"s{at}")
        for at, stage in enumerate(ring.stages)
        for before in stage.depends_on or (-1,)
    ]
    return nodes, edges


def _graph(graph: LaneGraph) -> tuple[list[Node], list[Edge]]:
    nodes = [
        Node(f"s{at}", (f"{role.id} ({role.kind})", _cut(str(role.op))), not role.outputs)
        for at, role in enumerate(graph.roles)
    ]
    kinds = {lane.name: lane.kind for lane in graph.lanes}
    edges = [Edge("input", f"s{at}") for at, role in enumerate(graph.roles) if not role.inputs]
    edges += [
        Edge(f"s{writer}", f"s{reader}", (lane, kinds[lane]))
        for writer, role in enumerate(graph.roles)
        for lane in role.outputs
        for reader, other in enumerate(graph.roles)
        if lane in other.inputs
    ]
    return nodes, edges


def _quoted(*lines: str) -> str:
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'


def dot(spec: Spec) -> str:
    """Graphviz; a double border releases slots or ends a line."""
    nodes, edges = _drawing(spec)
    out = [
        f"digraph {_quoted(spec.name)} {{",
        "  rankdir=LR;",
        "  node [shape=box];",
        "  input [shape=oval];",
    ]
    for node in nodes:
        border = ", peripheries=2" if node.last else ""
        out.append(f"  {node.key} [label={_quoted(*node.lines)}{border}];")
    for edge in edges:
        label = f" [label={_quoted(*edge.lines)}]" if edge.lines else ""
        out.append(f"  {edge.source} -> {edge.target}{label};")
    return "\n".join([*out, "}", ""])


def _entities(*lines: str) -> str:
    safe = (_mermaid.sub(lambda found: f"#{ord(found[0])};", line) for line in lines)
    return '"' + "<br/>".join(safe) + '"'


def mermaid(spec: Spec) -> str:
    """Mermaid; a doubled side releases slots or ends a line."""
    nodes, edges = _drawing(spec)
    out = ["flowchart LR", "  input([input])"]
    for node in nodes:
        left, right = ("[[", "]]") if node.last else ("[", "]")
        out.append(f"  {node.key}{left}{_entities(*node.lines)}{right}")
    for edge in edges:
        label = f"|{_entities(*edge.lines)}|" if edge.lines else ""
        out.append(f"  {edge.source} -->{label} {edge.target}")
    return "\n".join([*out, ""])
