"""A store on disk, driven through the services only: real files, real commands, real targets.

`import shop` finds it (`tests/conftest.py`): tests are no package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from muniment.app import activating, building, creating, folder, intaking, packing
from muniment.app.request import Outcome
from muniment.app.session import Options, Session
from muniment.domain import build, channel, release, slot
from muniment.domain.activation_commands import Switch
from muniment.domain.states import Stage, Target
from muniment.store import merkle

EU, DE = "prod/stable/eu", "prod/canary/de"
COPY = ("cp", "-r", "{input}/.", "{output}")
REPORT = '<testsuite tests="1"><testcase name="a"/></testsuite>'
FAILING = '<testsuite tests="1"><testcase name="a"><failure/></testcase></testsuite>'
STATES = ["PLANNED", "FETCHED", "VERIFIED", "STAGED", "SWITCHED"]


def key(text: str) -> Options:
    return Options(key=text)


class Shop:
    """One store below `base`; `at` is its folder."""

    def __init__(self, base: Path, name: str = "store") -> None:
        self.base = base
        self.at = base / name

    def init(self, policy: str = "solo") -> dict[str, Any]:
        return dict(creating.create_store(str(self.at), policy=policy))

    def open(self, *, write: bool = True) -> Session:
        return Session(self.at, write=write)

    def source(self, text: str = "1") -> Path:
        folder = self.base / "in"
        (folder / "sub").mkdir(parents=True, exist_ok=True)
        (folder / "a.csv").write_text(f"a,b\n1,{text}\n")
        (folder / "sub" / "x").write_text("x")
        return folder

    def target(self, name: str = "edge-1") -> Path:
        return self.base / name

    # -- steps, each one must succeed ------------------------------------------------------------------------------

    def taken(self, session: Session, text: str = "1") -> str:
        outcome, _, name = intaking.add(session, str(self.source(text)), Options())
        must(outcome)
        return name

    def started(self, session: Session, name: str = "b-1", text: str = "1") -> str:
        outcome, made = building.start(
            session, Options(), product="atlas", intake_id=self.taken(session, text), build_id=name
        )
        must(outcome)
        return made

    def gated(self, session: Session, name: str = "b-1", text: str = "1") -> str:
        self.started(session, name, text)
        report = self.base / "r.xml"
        report.write_text(REPORT)
        must(building.gate(session, Options(), build_id=name, name="validate", report=str(report))[0])
        return name

    def compiled(self, session: Session, name: str = "b-1", text: str = "1", **more: Any) -> str:
        self.gated(session, name, text)
        staged = building.stage(session, Options(), build_id=name, name="compile", argv=COPY)
        assert staged.finished is not None
        must(staged.finished)
        outcome, manifest = packing.create(session, Options(), "{out.compile}", build_id=name, **more)
        must(outcome)
        return str(manifest["runtime_pack_id"])

    def pack(self, session: Session, name: str = "b-1", text: str = "1", **more: Any) -> str:
        found = self.compiled(session, name, text, **more)
        must(packing.reproduce(session, Options(), build_id=name, argv=COPY)[0])
        must(session.run(build.Finish(name)))
        must(packing.register(session, Options(), found)[0])
        must(packing.verify(session, Options(), found)[0])
        return found

    def declared(self, session: Session, name: str = "prod/stable", *cohorts: str) -> None:
        must(session.run(channel.Declare(name, list(cohorts) or ["eu"], [])))

    def promoted(self, session: Session, name: str, pack: str, where: str = EU) -> None:
        must(session.run(release.Create(name, pack, [Stage([where], 100_000, 0)])))
        must(session.run(release.Start(name)))
        must(session.run(release.Promote(name, "")))

    def activated(self, session: Session, name: str = "edge-1", where: str = EU) -> activating.Result:
        result = activating.activate(session, Options(), where, str(self.target(name)), name=name)
        assert ("CONFIRMED", 0) == (result.state, result.exit_code), result
        return result

    def activate(self, session: Session, **more: Any) -> activating.Result:
        """An activation of `edge-1`, whatever comes of it."""
        options = more.pop("options", Options())
        return activating.activate(session, options, EU, str(self.target()), name="edge-1", **more)

    def left(self, session: Session, upto: str) -> activating.Result:
        """Let an activation of `edge-1` stand at a state, as a killed run would have left it."""
        place = self.target()
        result = activating.Result(EU, "edge-1", str(place))
        run = activating.Run(session, session.request(Options()), result, place, waive=False, threshold=0)
        assert run.plan("" if not place.is_dir() else folder.read_active(place) or "")
        folder.adopt(place, "edge-1", EU)
        steps = [("FETCHED", run._fetch), ("VERIFIED", run._verify), ("STAGED", run._stage)]
        for state_, step in steps[: STATES.index(upto)]:
            assert state_ == step()
        if upto == "SWITCHED":
            session.run(Switch(run.result.activation, EU, "edge-1", waive_rollback=False))
        return run.result

    def healthy(
        self, session: Session, name: str = "edge-1", status: str = "HEALTHY", where: str = EU
    ) -> Outcome:
        return must(session.run(slot.Report(where, name, status, [])))

    def good(self, session: Session, number: int = 1, *names: str) -> str:
        """A pack in `prod/stable/eu`, released, active and attested good on its targets (`edge-1`)."""
        found = self.pack(session, f"b-{number}", str(number))
        if number == 1:
            self.declared(session)
        self.promoted(session, f"r-{number}", found)
        for name in names or ("edge-1",):
            self.activated(session, name)
            self.healthy(session, name)
        must(session.run(release.Complete(f"r-{number}")))
        return found

    def two(self, session: Session, *names: str) -> tuple[str, str]:
        """The first pack good, the second one active and degraded."""
        one, two = self.good(session, 1, *names), self.pack(session, "b-2", "2")
        self.promoted(session, "r-2", two)
        for name in names or ("edge-1",):
            self.activated(session, name)
            self.healthy(session, name, "DEGRADED")
        return one, two

    def three(self, session: Session, *names: str) -> tuple[str, str, str]:
        """Two good packs, the third one active and degraded."""
        one, two = self.good(session, 1, *names), self.good(session, 2, *names)
        three = self.pack(session, "b-3", "3")
        self.promoted(session, "r-3", three)
        for name in names or ("edge-1",):
            self.activated(session, name)
            self.healthy(session, name, "DEGRADED")
        return one, two, three


def must(outcome: Outcome) -> Outcome:
    assert outcome.refusal is None, f"{outcome.refusal.rule}: {outcome.refusal.message}"
    return outcome


def refused(outcome: Outcome, rule: str, exit_code: int = 6) -> Outcome:
    assert outcome.refusal is not None, [event.type for event in outcome.events]
    assert (rule, exit_code) == (outcome.refusal.rule, outcome.exit_code)
    return outcome


def stage(session: Session, *argv: str, name: str = "ingest", **more: Any) -> building.Stage:
    """A stage of the build `b-1`, whatever comes of it."""
    options = more.pop("options", Options())
    return building.stage(session, options, build_id="b-1", name=name, argv=list(argv), **more)


def declare(session: Session, name: str = "prod/stable", options: Options | None = None) -> Outcome:
    """A channel, whatever comes of it."""
    return session.run(channel.Declare(name, ["eu"], []), options)


def state(session: Session, name: str = "edge-1", where: str = EU) -> Target:
    """A target as the log has it."""
    return activating.slot_of(session, where)[1].targets[name]


def records(session: Session) -> list[dict[str, Any]]:
    return [msgspec.json.decode(body) for _, body in session.log.read()]


def types(session: Session, *, after: int = 0) -> list[str]:
    return [record["type"].removesuffix("/1") for record in records(session)[after:]]


def sound(session: Session) -> list[dict[str, Any]]:
    """The whole log holds: positions, leaves, root, whole batches, and the evidence of every record."""
    rows = list(session.log.read())
    assert list(range(1, len(rows) + 1)) == [position for position, _ in rows]
    leaves = [merkle.leaf_hash(body) for _, body in rows]
    assert leaves == list(session.log.leaves())
    assert (len(rows), merkle.root(leaves)) == session.log.head()[:2]
    found = [msgspec.json.decode(body) for _, body in rows]
    batches: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    for record in found:
        if batch := record.get("batch"):
            batches.setdefault(batch["first"], []).append(batch["index"])
            sizes[batch["first"]] = batch["size"]
        for item in record.get("evidence", ()):
            assert None is session.evidence.check(item["blake3"], item["sha256"], item["bytes"])
    for first, indices in batches.items():
        assert list(range(sizes[first])) == indices, "a batch is whole"
    created = [record["type"] for record in found[:2]]
    assert not found or ["store.created/1", "policy.published/1"] == created
    assert found or created == []
    return found


def blob_of(session: Session, pack: str, number: int = 0) -> Path:
    """The evidence file of a pack's file."""
    manifest = packing.manifest_of(session, pack)
    return session.evidence.path(manifest["files"][number]["blake3"])


def damage(path: Path) -> bytes:
    """Flip one byte; return what stood there."""
    data = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    return data
