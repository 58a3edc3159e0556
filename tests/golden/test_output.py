"""Golden files: every `-o json` output of a story that the command line tells, with what differs from run to run replaced.

Written anew with MUNIMENT_WRITE_GOLDEN=1; the difference is then reviewed like code. Each output that has a schema is either
golden here or named in `ELSEWHERE` with the reason.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from muniment.cli.outputs import SCHEMAS, schema_of
from muniment.ops import generate
from muniment.ring.executor import make_ring
from muniment.ring.spec import SingleRing
from muniment.ring.spec_rules import parse as load_spec

HERE = Path(__file__).parent
FOLDER = HERE / "output"
ROOT = HERE.parents[1]
PIPELINES = ROOT / "ops" / "pipelines"

_spec = importlib.util.spec_from_file_location("muniment_cli_story", HERE.parent / "cli" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_story = importlib.util.module_from_spec(_spec)
sys.modules["muniment_cli_story"] = _story
_spec.loader.exec_module(_story)
moments, place, run = _story.moments, _story.place, _story.run

SLOT = "prod/stable/all"

# file name -> moment, command line; the commands of one moment that change the store stand alone
CASES: dict[str, tuple[str, str]] = {
    "init": ("empty", "init --store other"),
    "key.create": ("built", "key create alice"),
    "key.list": ("built", "key list"),
    "identity.list": ("built", "identity list"),
    "policy.show": ("built", "policy show"),
    "policy.publish": ("built", "policy publish team --reason 'two people'"),
    "clock.accept": ("built", "clock accept --reason 'was wrong'"),
    "store.migrate": ("built", "store migrate"),
    "intake.add": ("built", "intake add one --id in-7 --origin example:one"),
    "intake.list": ("built", "intake list"),
    "intake.show": ("built", "intake show in-1"),
    "build.start": ("built", "build start --product atlas --intake in-1 --id b-7 --config a=b"),
    "build.cancel": ("working", "build cancel b-7 --reason 'wrong input'"),
    "build.gate": ("working", "build gate validate --verdict FAIL --reason 'read by hand'"),
    "build.waive": ("working", "build waive licence --expires 2099-01-01T00:00:00Z --reason 'asked for'"),
    "build.stage": ("working", "build stage validate --dry-run -- true"),
    "build.finish": ("working", "build finish"),
    "build.reproduce": ("compiled", "build reproduce --from one"),
    "build.list": ("told", "build list"),
    "build.show": ("told", "build show b-2"),
    "pack.create": ("working_passed", "pack create one --compiler cp@1"),
    "pack.register": ("eligible", "pack register build:b-7"),
    "pack.verify": ("built", "pack verify build:b-1"),
    "pack.block": (
        "built",
        "pack block build:b-1 --id bl-1 --scope prod --advisory CVE-1 --reason 'look at it'",
    ),
    "pack.unblock": ("blocked", "pack unblock build:b-1 --id bl-1 --reason fine"),
    "pack.withdraw": ("built", "pack withdraw build:b-1 --reason old"),
    "pack.list": ("told", "pack list"),
    "pack.show": ("told", "pack show build:b-3"),
    "channel.declare": ("built", "channel declare prod/canary --cohort eu --cohort us"),
    "channel.pin": ("built", f"channel pin {SLOT} --pack build:b-1 --expires 3d --reason hold"),
    "channel.unpin": ("released", f"channel unpin {SLOT} --reason over"),
    "channel.freeze": ("built", "channel freeze prod --id fz-1 --expires 2h --reason moving"),
    "channel.unfreeze": ("frozen", "channel unfreeze prod --id fz-1 --reason moved"),
    "channel.baseline": ("built", "channel baseline prod --pack build:b-1"),
    "channel.list": ("released", "channel list"),
    "channel.show": ("released", "channel show"),
    "release.create": ("built", f"release create --pack build:b-1 --id r-7 --to {SLOT},soak=1h,percent=12.5"),
    "release.start": ("drafted", "release start r-7"),
    "release.promote": ("started", "release promote r-7"),
    "release.pause": ("started", "release pause r-7 --reason wait"),
    "release.resume": ("paused", "release resume r-7"),
    "release.complete": ("healthy", "release complete r-7"),
    "release.list": ("told", "release list"),
    "release.show": ("told", "release show r-2"),
    "activate": ("promoted", f"activate {SLOT} --target edge --name edge"),
    "active": ("told", "active --target edge"),
    "rollback": ("switched", f"rollback {SLOT} --dry-run"),
    "health.report": (
        "released",
        f"health report {SLOT} --status UNHEALTHY --signal errors=9 --signal note=bad",
    ),
    "slot.lift-quarantine": (
        "told",
        "slot lift-quarantine prod/stable --pack build:b-3 --reason 'not its fault'",
    ),
    "slot.unstick": ("stuck", f"slot unstick {SLOT} --to build:b-1 --reason 'checked by hand'"),
    "incident.declare": ("released", "incident declare --scope prod --severity SEV2 --summary 'no answers'"),
    "incident.note": ("declared", "incident note i-1 --text 'it is the data' --class workflow"),
    "incident.contain": ("declared", "incident contain i-1"),
    "incident.resolve": ("reported", "incident resolve i-1 --resolution 'went away'"),
    "incident.close": (
        "resolved",
        "incident close i-1 --cause 'no test' --action 'write one,a,2026-12-01,t'",
    ),
    "incident.list": ("told", "incident list"),
    "incident.show": ("told", "incident show i-1"),
    "incident.timeline": ("told", "incident timeline i-1"),
    "history.list": ("told", "history list --where incident=i-1"),
    "history.show": ("released", "history show '#20'"),
    "explain": ("released", "explain r-2"),
    "evidence.summary": ("built", "evidence-summary --check"),
    "tour": ("told", "tour"),
    "projection.status": ("built", "projection status"),
    "projection.rebuild": ("built", "projection rebuild"),
    "projection.digest": ("built", "projection digest"),
    "verify.store": ("told", "verify store --decisions"),
    "store.copy": ("built", "store copy store other"),
    "store.backup": ("built", "store backup other"),
    "store.restore": ("backed_up", "store restore made other"),
    "store.restore.check": ("backed_up", "store restore made --check"),
    "doctor": ("built", "doctor --profile low-latency"),
    "validate": ("built", f"validate --spec {PIPELINES}/checksum.kv --record"),
    "describe": ("built", f"describe --spec {PIPELINES}/fan-out.kv"),
    "run": ("built", f"run --spec {PIPELINES}/errors.kv --input events.ndjson --source events"),
    "snapshot": ("built", "snapshot --ring-path ring"),
    "dot": ("built", f"dot --spec {PIPELINES}/fan-out.kv"),
    "schema.list": ("built", "schema list"),
    "schema.show": ("built", "schema show channel.unpinned"),
    "schema.check": ("built", "schema check --type channel.unpinned data.json"),
    "refused": ("released", "release promote r-2"),
    "error": ("built", "build show b-2"),
}
ELSEWHERE = {
    "store.maintain/1": "tests/postgres/test_maintenance.py",
    "demo/1": "tests/e2e tells it",
    "demo.path/1": "a path",
    "identity.add/1": "a key of its own at every run; tests/cli",
    "key.revoke/1": "the same",
    "health.collect/1": "the shape of health.report/1; tests/cli",
    "slot.attest/1": "policy solo attests with the report; tests/cli refuses it",
}

SEVEN = "build start --product atlas --intake in-1 --id b-7"
PASSED = (SEVEN, "build gate validate --verdict PASS --reason read")
COMPILED = (*PASSED, "pack create one --compiler cp@1")
DRAFT = f"release create --pack build:b-1 --id r-7 --to {SLOT}"
STARTED = (DRAFT, "release start r-7")
PROMOTED = (*STARTED, "release promote r-7")
HEALTHY = f"health report {SLOT} --status HEALTHY"
DECLARE = "incident declare --scope prod --severity SEV2 --summary 'no answers'"
# moments made of a frozen one and a few commands
MADE: dict[str, tuple[str, tuple[str, ...]]] = {
    "working": ("built", (SEVEN,)),
    "working_passed": ("built", PASSED),
    "compiled": ("built", COMPILED),
    "eligible": ("built", (*COMPILED, "build reproduce --from one", "build finish")),
    "blocked": ("built", ("pack block build:b-1 --id bl-1",)),
    "frozen": ("built", ("channel freeze prod --id fz-1",)),
    "backed_up": ("built", ("store backup made",)),
    "drafted": ("built", (DRAFT,)),
    "started": ("built", STARTED),
    "paused": ("built", (*STARTED, "release pause r-7")),
    "promoted": ("built", PROMOTED),
    "healthy": ("built", (*PROMOTED, f"activate {SLOT} --target edge --name edge", HEALTHY)),
    "switched": (
        "released",
        (f"channel unpin {SLOT}", "release promote r-2", f"activate {SLOT} --target edge"),
    ),
    "stuck": ("released", (f"channel unpin {SLOT}", f"rollback {SLOT}")),
    "declared": ("released", (DECLARE,)),
    "reported": ("released", (DECLARE, HEALTHY)),
    "resolved": ("released", (DECLARE, HEALTHY, "incident resolve i-1 --resolution 'went away'")),
}
MEASURED = {"wall_us", "user_us", "system_us", "max_rss_kib", "leaf", "digest_of_environment"}
MEASURED |= {
    "captured_unix_ns",
    "created_unix_ns",
    "t0_ns",
    "t1_ns",
    "last_unix_ns",
    "silent_ms",
    "mapped_bytes",
}
HOST = {"kernel", "machine", "os", "python"}  # of a stage's environment: each machine has its own
_MASKS: tuple[tuple[str, str], ...] = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "INSTANT"),
    (r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", "DIGEST"),
    (r"(?<![0-9a-f])[0-9a-f]{12}…", "SHORT…"),
    (r"(?<![0-9a-z])[0-9a-f]{16}(?![0-9a-z])", "KEYID"),
    (r"(?<![a-z0-9])(at|a|rb|fz|s|bl|re|run)-[a-z2-7]{8}(?![a-z0-9])", r"\1-ID"),
    (r"\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{44}", "+HASH+KEY"),
)


def masked(value: Any) -> Any:
    """The answer without what differs from run to run; positions, order and words stay."""
    if isinstance(value, dict):
        bare = {key: "MEASURED" if key in MEASURED else masked(item) for key, item in value.items()}
        if isinstance(
            bare.get("seconds"), str
        ):  # a duration; that of a clock's jump is a number and is exact
            bare["seconds"] = "MEASURED"
        if HOST <= bare.keys():
            bare |= dict.fromkeys(HOST, "HOST")
        if "leaf" in bare:
            bare["bytes"] = "MEASURED"
        if "public" in bare:
            bare["public"] = "KEY"
        return bare
    if isinstance(value, list):
        return [masked(item) for item in value]
    if isinstance(value, str):
        for pattern, word in _MASKS:
            value = re.sub(pattern, word, value)
        place_, user = str(Path.cwd()), _user()
        return value.replace(place_, "DIR").replace(f"{user},", "USER,") if value != user else "USER"
    return value


def _user() -> str:
    from muniment.app.actor import os_actor

    return os_actor().id


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` looks at a host that is the same everywhere, and does not keep the whole contract."""
    import hosts
    from muniment.app import host_check_facts

    made = hosts.Host(tmp_path / "host").put("proc/loadavg", "1.50 0.30 0.20 1/99 4242")
    made.given["extras"] = {"s3": False}
    monkeypatch.setattr(host_check_facts, "HostFacts", lambda: made.facts)
    monkeypatch.setenv("MUNIMENT_RUNTIME", "runtime")  # in the folder of the story


def drained(path: Path) -> None:
    """A ring whose one stage has read all, and whose process has left it."""
    spec = load_spec((ROOT / "ops" / "pipelines" / "ingest.kv").read_bytes(), "ingest.kv")
    assert isinstance(spec.pipeline, SingleRing)
    small = replace(spec.pipeline, capacity=8, slot_bytes=64)
    with (
        make_ring(spec, small, str(path), "park") as ring,
        ring.producer() as producer,
        ring.consumer(0) as stage,
    ):
        producer.publish_many([b"x"] * 3)
        stage.take_many(8)
        producer.end()


def go(place_: Callable[[str], Path], moment: str) -> None:
    """Go to a frozen moment, or to one made of it."""
    base, commands = MADE.get(moment, (moment, ()))
    root = place_(base)
    (root / "data.json").write_text(json.dumps({"scope": "prod", "pack": "sha256:" + "0" * 64, "reason": ""}))
    with (root / "events.ndjson").open("w") as file:
        file.writelines(
            f'{{"id":"e-{n}","type":"t","data":{{"level":"{level}"}}}}\n'
            for n, level in enumerate(("error", "info", "error"))
        )
    drained(root / "ring")
    for command in commands:
        ran = run(*shlex.split(command))
        assert ran.code in (0, 6) if "rollback" in command else ran.code == 0, (
            f"{command}\n{ran.out}{ran.err}"
        )


@pytest.mark.parametrize("name", CASES)
def test_golden(place: Callable[[str], Path], name: str) -> None:
    moment, line = CASES[name]
    go(place, moment)
    said = run("-o", "json", *shlex.split(line)).json
    assert said["schema"].rpartition("/")[0] == name
    assert schema_of(said)["title"] == said["schema"]
    shown = json.dumps(masked(said), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    file = FOLDER / f"{name}.json"
    if os.environ.get("MUNIMENT_WRITE_GOLDEN"):
        file.write_text(shown, encoding="utf-8")
    expected = file.read_text(encoding="utf-8")
    assert expected == shown


def test_every_output_is_golden_or_says_where_it_is_tested() -> None:
    golden = {f"{name}/1" for name in CASES}
    assert golden | set(ELSEWHERE) == set(SCHEMAS)
    assert not golden & set(ELSEWHERE)
    assert {path.stem for path in FOLDER.glob("*.json")} == set(CASES)


def test_the_published_output_schemas_are_those_of_the_code() -> None:
    made = {path: data for path, data in generate.generated().files.items() if path.startswith("outputs/")}
    assert len(made) == len(SCHEMAS)
    for path, data in made.items():
        assert (ROOT / "schemas" / path).read_bytes() == data, (
            f"python -m muniment.ops.generate --write ({path})"
        )


def test_the_published_help_is_that_of_the_program() -> None:
    made = generate.generated().files["help.txt"]
    assert (ROOT / "schemas" / "help.txt").read_bytes() == made, "python -m muniment.ops.generate --write"


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_output_schema_is_closed(name: str) -> None:
    import jsonschema

    schema = SCHEMAS[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema": name, "surprise": 1}, schema)
