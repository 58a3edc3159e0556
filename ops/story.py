"""The story that `muniment demo` tells, and the README's first five minutes: one list, so the two cannot differ.

`$DEMO` is the folder of the demo's content, `$EDGE` the target folder; the store is named by MUNIMENT_STORE. Commands are plain
words (`shlex`), the number is the exit code that the story expects: a story that goes otherwise is a failure of the demo.
"""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """One command of the story, without the word `muniment`."""

    command: str
    exit_code: int = 0


class Chapter(NamedTuple):
    """A few commands that belong together, and the sentence before them."""

    title: str
    steps: tuple[Step, ...]


PROBE = "python3 $DEMO/tools/probe.py {active}"
VALIDATE = "python3 $DEMO/tools/validate.py {input} {output}/report.xml"
COMPILE = "python3 $DEMO/tools/compile.py {input} {output}"
SLOT = "prod/stable/all"


def _built(build: str, intake: str, source: str, epoch: int) -> tuple[Step, ...]:
    return (
        Step(f"intake add $DEMO/{source} --id {intake} --authority atlas-editors"),
        Step(f"build start --product atlas --intake {intake} --id {build}"),
        Step(f"build stage validate --build {build} -- {VALIDATE}"),
        Step(f"build gate validate --build {build} --from {{out.validate}}/report.xml"),
        Step(f"build stage compile --build {build} -- {COMPILE}"),
        Step(f"pack create {{out.compile}} --build {build} --epoch {epoch} --compiler atlas-compile@1"),
        Step(f"build reproduce --build {build} -- {COMPILE}"),
        Step(f"build finish --build {build}"),
        Step(f"pack register build:{build}"),
    )


STORY: tuple[Chapter, ...] = (
    Chapter("A store, with a policy that lets one person walk the whole way", (Step("init --policy solo"),)),
    Chapter(
        "The first edition: intake, gated build, reproducible pack", _built("b-1", "in-1", "input-v1", 1)
    ),
    Chapter(
        "Released to a slot, verified byte by byte on its target, switched by one rename",
        (
            Step("channel declare prod/stable --cohort all"),
            Step(f"release create --id r-1 --pack build:b-1 --to {SLOT}"),
            Step("release start r-1"),
            Step("release promote r-1"),
            Step(f"activate {SLOT} --target $EDGE"),
            Step(f"health collect {SLOT} -- {PROBE}"),
            Step("release complete r-1"),
            Step("active --target $EDGE"),
        ),
    ),
    Chapter(
        "The second edition has two slips: the gate says no, so nothing compiles",
        (
            Step("intake add $DEMO/input-v2-bad --id in-2 --authority atlas-editors"),
            Step("build start --product atlas --intake in-2 --id b-2"),
            Step(f"build stage validate --build b-2 -- {VALIDATE}"),
            Step("build gate validate --build b-2 --from {out.validate}/report.xml", 7),
            Step(f"build stage compile --build b-2 -- {COMPILE}", 6),
            Step("build finish --build b-2", 7),
        ),
    ),
    Chapter("Corrected, it passes every gate", _built("b-3", "in-3", "input-v2", 1)),
    Chapter(
        "A pin holds the slot: the promotion is refused, and the refusal is a record",
        (
            Step(f"release create --id r-2 --pack build:b-3 --to {SLOT}"),
            Step("release start r-2"),
            Step(f"channel pin {SLOT} --pack build:b-1 --expires 3d --reason 'hold for audit'"),
            Step("release promote r-2", 6),
            Step(f"channel unpin {SLOT} --reason 'audit is over'"),
            Step("release promote r-2"),
            Step(f"activate {SLOT} --target $EDGE"),
        ),
    ),
    Chapter(
        "No gate had asked for a former name; users do. Health degrades, the release does not complete",
        (Step(f"health collect {SLOT} -- {PROBE}", 7), Step("release complete r-2", 6)),
    ),
    Chapter(
        "An incident freezes the scope and pauses the release",
        (
            Step(
                "incident declare --severity SEV2 --scope prod/stable --summary 'former names give no answer'"
            ),
        ),
    ),
    Chapter(
        "What users asked, through a pipeline: it stops at a line that was cut short, and its ring joins the incident",
        (
            Step("validate --spec $DEMO/questions/questions.kv"),
            Step(
                "run --spec $DEMO/questions/questions.kv --input $DEMO/questions/asked.ndjson --no-record", 10
            ),
            Step("snapshot --run questions --incident i-1"),
        ),
    ),
    Chapter(
        "The rollback chooses its target from records alone",
        (
            Step(f"rollback {SLOT} --dry-run"),
            Step(f"rollback {SLOT} --trigger health_regressed --reason 'former names give no answer'"),
            Step("active --target $EDGE"),
            Step(f"health collect {SLOT} -- {PROBE}"),
            Step("incident note i-1 --text 'aliases were made anew from names in use today'"),
            Step("incident resolve i-1 --resolution 'rolled back to the first edition'"),
            Step(
                "incident close i-1 --cause 'no gate asks for former names' --action 'add a gate,editors,2026-12-01,former-names'"
            ),
        ),
    ),
    Chapter(
        "The auditor reads it back: what happened, why, with what evidence, and whether it is whole",
        (
            Step("history list --limit 8"),
            Step("channel show prod/stable"),
            Step("explain r-2"),
            Step("evidence-summary"),
            Step("projection status"),
            Step("tour r-2"),
            Step("verify store"),
        ),
    ),
)


def shell() -> str:
    """The story as the README shows it: lines for a shell, with the exit code where it is not 0."""
    lines = ["export MUNIMENT_STORE=$PWD/first-store EDGE=$PWD/first-edge DEMO=$(muniment demo --path)"]
    for chapter in STORY:
        lines += ["", f"# {chapter.title}"]
        lines += [
            f"muniment {step.command}" + (f"   # exit {step.exit_code}" if step.exit_code else "")
            for step in chapter.steps
        ]
    return "\n".join(lines) + "\n"
