"""Specs as text, events as lines, and runs of `muniment run`'s use case in this process, each held to a time."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from muniment.app import running
from muniment.app.ingest_sink import position_item
from muniment.app.run_report import Report
from muniment.app.running import Asked
from muniment.app.session import Session
from muniment.domain.query import Item
from muniment.ring.spec import Spec
from muniment.ring.spec_rules import parse

HANG_S = 40.0
OURS = ("stage ", "role ", "feeder")


def single(
    *ops: str | tuple[str, str],
    name: str = "p",
    slot_bytes: int = 4096,
    capacity: int = 1024,
    **keys: object,
) -> str:
    """The text of a single-ring spec; an op is its text, or (text, depends_on)."""
    keys = {"slot_bytes": slot_bytes, "capacity": capacity, **keys}
    lines = ["spec.version=1", f"spec.name={name}", "spec.model=single_ring"]
    lines += [f"single_ring.{key}={value}" for key, value in keys.items()]
    for at, op in enumerate(ops):
        text, depends = op if isinstance(op, tuple) else (op, "" if at == 0 else str(at - 1))
        lines += [f"single_ring.stages.{at}.id=s{at}", f"single_ring.stages.{at}.op={text}"]
        lines += [f"single_ring.stages.{at}.depends_on={depends}"] if depends else []
    return "\n".join(lines) + "\n"


def graph(lanes: Mapping[str, str], roles: Sequence[str], name: str = "g") -> str:
    """The text of a lane-graph spec.

    Args:
        lanes: name to `kind`, or `kind key=value key=value`.
        roles: `id kind op inputs > outputs`, names joined by commas, `-` for none.
    """
    lines = ["spec.version=1", f"spec.name={name}", "spec.model=lane_graph"]
    for at, (lane, said) in enumerate(lanes.items()):
        kind, *more = said.split()
        lines += [f"lane_graph.lanes.{at}.name={lane}", f"lane_graph.lanes.{at}.kind={kind}"]
        lines += [f"lane_graph.lanes.{at}.{pair}" for pair in more]
    for at, said in enumerate(roles):
        role, kind, op, inputs, _, outputs = said.split()
        lines += [
            f"lane_graph.roles.{at}.id={role}",
            f"lane_graph.roles.{at}.kind={kind}",
            f"lane_graph.roles.{at}.op={op}",
        ]
        lines += [f"lane_graph.roles.{at}.inputs={inputs}"] if inputs != "-" else []
        lines += [f"lane_graph.roles.{at}.outputs={outputs}"] if outputs != "-" else []
    return "\n".join(lines) + "\n"


def spec_of(text: str) -> Spec:
    return parse(text.encode(), "spec")


def event(number: int, **more: object) -> bytes:
    return json.dumps({"id": f"e{number}", "type": "t", "n": number, **more}).encode()


def events(first: int, last: int, **more: object) -> bytes:
    """Lines of events first to last."""
    return b"".join(event(number, **more) + b"\n" for number in range(first, last + 1))


def ours() -> list[str]:
    """Threads of pipelines that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(OURS)]


def held(act: Callable[[], Any], seconds: float = HANG_S) -> Any:
    """Run in a thread and return what it returns or raise what it raises; a hang fails, and so does a thread that is left."""
    answers: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(act())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"it hangs: {ours()}"
    assert ours() == []
    if errors:
        raise errors[0]
    return answers[0]


class Bench:
    """A store, an input and what runs said; `session` may be another one."""

    def __init__(self, base: Path, session: Session | None) -> None:
        self.base, self.session, self.told = base, session, []
        self.input = base / "in.ndjson"

    told: list[tuple[str, str]]

    def feed(self, data: bytes) -> None:
        self.input.write_bytes(data)

    def run(self, text: str, **asked: Any) -> Report:
        """Run a spec over the input; `source` is `src` unless said otherwise."""
        asked = {"input": str(self.input), "source": "src", **asked}
        told = lambda word, said: self.told.append((word, said))  # noqa: E731
        report: Report = held(
            lambda: running.run(
                spec_of(text), self.session, Asked(**asked), told=told, progress=lambda _bytes: None
            )
        )
        return report

    def failed(self, text: str, **asked: Any) -> Any:
        """The error a run failed with."""
        report = self.run(text, **asked)
        assert report.outcome == "failed"
        assert report.failure is not None
        return report.failure.error

    # -- what the log says ---------------------------------------------------------------------------------------------

    def of(self, type_: str) -> list[dict[str, Any]]:
        assert self.session is not None
        return [dict(fact.data) for fact in self.session.facts((Item((type_,)),))]

    def numbers(self) -> list[int]:
        """`n` of every imported event, in the order of the log."""
        return [json.loads(data["body"])["n"] for data in self.of("fact.imported/1")]

    def position(self, source: str = "src", spec: str = "p") -> int:
        """Where the input goes on; 0 if nothing is acknowledged."""
        assert self.session is not None
        last = self.session.last(position_item(source, spec))
        return int(last.data["to_offset"]) if last else 0

    def lived(self) -> list[str]:
        """The outcome of every run that ended."""
        return [data["outcome"] for data in self.of("runtime.run_ended/1")]


def check_marks(data: bytes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Every acknowledged position is the end of a line of the input, and the record names that line."""
    for row in rows:
        end = int(row["to_offset"])
        if end:
            assert end > len(data) or data[end - 1 : end] == b"\n"
            line = data[: end - 1].rpartition(b"\n")[2]
            named = (row["last_line_sha256"], row["last_line_bytes"])
            assert named == (f"sha256:{sha256(line).hexdigest()}", len(line))


def stage(report: Report, id_: str) -> dict[str, Any]:
    return next(dict(found) for found in report.stages if found["id"] == id_)


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that comes."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def fifo(path: Path) -> int:
    """A fifo that is open for writing; the reader finds it at once."""
    os.mkfifo(path)
    return os.open(path, os.O_RDWR)
