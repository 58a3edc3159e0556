"""The chapters of `tour`: for each its question, answers from the read model, the records behind them, and where to look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from muniment.cli.rollback import trace_lines

if TYPE_CHECKING:
    from muniment.app.reading import Reader
    from muniment.domain.states import Release

Chapter = dict[str, Any]
EXPOSURE = (
    "release.exposed",
    "release.promoted",
    "release.soaked",
    "release.gate",
    "release.paused",
    "release.resumed",
    "release.completed",
    "release.rolled_back",
    "command.refused",
)
BUILT = (
    "build.requested",
    "build.inputs",
    "build.stage_finished",
    "build.compiled",
    "build.reproduced",
    "build.finished",
    "build.cancelled",
)


def chapters(looking: Reader, release: Release) -> list[Chapter]:
    """All chapters in reading order; one without records stays, since absence is an answer too."""
    model = looking.model
    pack = model.packs[release.pack]
    build = model.builds.get(pack.build)
    intake = build.intake if build is not None else ""
    of_release = f"release:{release.release}"
    slots = [f"slot:{slot}" for slot in release.slots]
    first = release.created.position
    found = [
        _chapter(
            looking,
            "intake",
            "what went in?",
            [f"intake:{intake}"],
            ("intake.",),
            [f"muniment intake show {intake}"],
        ),
        _build(looking, pack.build),
        _chapter(
            looking,
            "gates",
            "who or what said yes?",
            [f"build:{pack.build}"],
            ("build.gate", "build.compile_refused"),
            [f"muniment build show {pack.build}"],
        ),
        _chapter(
            looking,
            "pack",
            "what came out?",
            [f"pack:{pack.pack}"],
            ("pack.",),
            [f"muniment pack show {pack.pack}"],
        ),
        _chapter(
            looking,
            "plan and approvals",
            "who agreed to what?",
            [of_release],
            ("release.created", "release.submitted", "release.approved", "release.started"),
            [f"muniment release show {release.release}"],
        ),
        _chapter(
            looking,
            "exposure",
            "where did it go, and what judged it?",
            [of_release],
            EXPOSURE,
            [f"muniment explain {of_release}"],
        ),
        _chapter(
            looking, "activation", "what did each target do?", slots, ("activation.", "target."), [], first
        ),
        _chapter(looking, "health", "how did it run?", slots, ("slot.health", "slot.good"), [], first),
        _rollback(looking, slots, first),
        _incidents(looking, release),
    ]
    return [*found, _verification(looking, release)]


def _chapter(
    looking: Reader,
    title: str,
    question: str,
    tags: Sequence[str],
    types: tuple[str, ...],
    look: Sequence[str],
    after: int = 0,
    answers: Sequence[tuple[str, str]] = (),
) -> Chapter:
    from muniment.app.history import row
    from muniment.domain.envelope import read_fact
    from muniment.domain.query import Item

    records = []
    query = tuple(Item((), (tag,)) for tag in tags)
    for position, body in looking.log.read(query, after=after, until=looking.until) if query else ():
        fact = read_fact(body, position)
        if fact.type.startswith(types):
            said = row(fact)
            records.append(
                {
                    "position": position,
                    "at": said["recorded_at"],
                    "actor": said["actor"],
                    "type": said["type"],
                    "summary": said["summary"],
                }
            )
    return {
        "title": title,
        "question": question,
        "answers": [{"name": name, "value": value} for name, value in answers],
        "records": records,
        "look": list(look),
    }


def _build(looking: Reader, name: str) -> Chapter:
    """The five answers: from what, by what, with which tools, judged how, does a second compile give the same."""
    build = looking.model.builds.get(name)
    answers: list[tuple[str, str]] = []
    if build is not None:
        stages = ", ".join(
            f"{stage} {tries[-1].status or 'RUNNING'}" for stage, tries in build.stages.items()
        )
        gates = ", ".join(f"{gate} {found.verdict}" for gate, found in build.gates.items())
        again = {True: "the same pack", False: "ANOTHER pack", None: "not compared"}[build.reproduced]
        answers = [
            ("from", f"intake {build.intake} {build.intake_digest}"),
            ("stages", stages or "none"),
            ("gates", gates or "none"),
            ("outcome", " ".join([build.outcome or "unfinished", *build.failed])),
            ("again", again),
        ]
    return _chapter(
        looking,
        "build",
        "how was it made?",
        [f"build:{name}"],
        BUILT,
        [f"muniment evidence-summary {name} --check"],
        answers=answers,
    )


def _rollback(looking: Reader, slots: Sequence[str], after: int) -> Chapter:
    """Every rollback in the release's slots since it was drafted, each with the trace of its candidates."""
    from muniment.domain.envelope import read_fact
    from muniment.domain.query import Item

    chapter = _chapter(
        looking, "rollback", "was it taken back, and to what?", slots, ("rollback.", "slot.stuck"), [], after
    )
    types = ("rollback.no_candidate/1", "rollback.pack_selected/1")
    query = tuple(Item(types, (slot,)) for slot in slots)
    for position, body in looking.log.read(query, after=after, until=looking.until):
        trace = read_fact(body, position).data["trace"]
        chapter["answers"] += [{"name": f"#{position}", "value": line.strip()} for line in trace_lines(trace)]
        chapter["look"].append(f"muniment explain '#{position}'")
    return chapter


def _incidents(looking: Reader, release: Release) -> Chapter:
    """Incidents over the release's slots since it was drafted."""
    touched = [
        item
        for item in looking.model.incidents.values()
        if item.declared.position > release.created.position and set(item.slots) & set(release.slots)
    ]
    return _chapter(
        looking,
        "incident",
        "what went wrong, and is it over?",
        [f"incident:{item.incident}" for item in touched],
        ("incident.", "runtime.snapshot_captured"),
        [f"muniment incident timeline {item.incident}" for item in touched],
        answers=[
            (item.incident, f"{item.severity} {item.state}, class {item.class_ or '-'}") for item in touched
        ],
    )


def _verification(looking: Reader, release: Release) -> Chapter:
    """What to run to trust none of the above; the head is given so that another copy can be held against it."""
    head = looking.log.head()
    return {
        "title": "verify",
        "question": "why should you believe this page?",
        "answers": [{"name": "head", "value": f"{head.size} records, root {head.root.hex()}"}],
        "records": [],
        "look": [
            f"muniment verify store --decisions --against {head.size}:{head.root.hex()}",
            f"muniment pack verify release:{release.release}",
            f"muniment evidence-summary {release.release} --check",
        ],
    }
