"""One story told through the real handler: every kind of record, with refusals, evidence and a signed command.

`import story` finds it (`tests/conftest.py`): tests are no package. Time and ids are made up here, so a story is the same
bytes at every telling.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from muniment.app import keys
from muniment.app.handlers import Handler
from muniment.app.request import Outcome, Request
from muniment.domain import canonical
from muniment.domain.commands import COMMANDS
from muniment.domain.decision import ActorRef
from muniment.domain.states import Stage
from muniment.projections import digest
from muniment.projections.model import ReadModel
from muniment.projections.registry import ALL, DRIVER
from muniment.store.api import Draft, Log
from muniment.store.evidence_folder import EvidenceFolder
from muniment.store.memory import MemoryLog

START = 1_790_000_000_000_000  # 2026-09-21
SOLO = json.loads((Path(__file__).parents[1] / "ops" / "policies" / "solo.json").read_text())
SLOT, CHANNEL = "prod/stable/eu", "prod/stable"


def command(name: str, *args: Any, **fields: Any) -> Any:
    """A command by the name it has in a record."""
    return COMMANDS[name](*args, **fields)


class Clock:
    """Microseconds; each reading is one second after the last."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def tick(self, seconds: int = 1) -> None:
        self.now += seconds * 1_000_000


def ids(prefix: str = "0190") -> Callable[[], str]:
    """Deterministic ids that look like UUIDv7."""
    count = [0]

    def make() -> str:
        count[0] += 1
        digest = hashlib.sha256(f"{prefix}{count[0]}".encode()).hexdigest()
        return f"{prefix}{digest[4:8]}-{count[0]:04x}-7{digest[8:11]}-8{digest[11:14]}-{digest[14:26]}"

    return make


class Signing:
    """A signer as the handler takes it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.key_id = keys.key_id(key)

    def __call__(self, record: dict[str, Any]) -> dict[str, str]:
        return keys.record_signature(self._key, record)

    sign = __call__


class Story:
    """Tells stories on a log. `evidence` may be None: then records name blobs that nobody has stored."""

    def __init__(
        self, log: Log, clock: Clock, evidence: EvidenceFolder | None = None, salt: str = ""
    ) -> None:
        self.log, self.clock, self.evidence, self.salt = log, clock, evidence, salt
        self.handler = Handler(log, now=clock, new_id=ids())
        self.actor = ActorRef("alice")
        self.key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"story").digest())

    def do(
        self, asked: Any, *, reason: str = "told", key: str = "", sign: bool = False, actor: str = ""
    ) -> Outcome:
        """Execute one command a second later; refusals are answers."""
        self.clock.tick()
        signer, who = None, ActorRef(actor) if actor else self.actor
        if sign:
            signer = Signing(self.key)
            who = ActorRef("alice", "human", f"ed25519:{keys.key_id(self.key)}")
        return self.handler.execute(asked, Request(who, reason=reason, key=key, signer=signer))

    def must(self, asked: Any, **options: Any) -> Outcome:
        """The same, and it must not be refused."""
        outcome = self.do(asked, **options)
        assert outcome.refusal is None, outcome.refusal
        return outcome

    def blob(self, role: str, data: bytes, media_type: str = "application/octet-stream") -> dict[str, Any]:
        """Store evidence and return its entry."""
        if self.evidence is not None:
            return dict(self.evidence.put(data).as_evidence(role, media_type))
        from blake3 import blake3

        return {
            "role": role,
            "blake3": blake3(data).hexdigest(),
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
            "media_type": media_type,
        }

    def pack_id(self, name: str) -> str:
        return "sha256:" + hashlib.sha256((self.salt + name).encode()).hexdigest()

    def init(self, store_id: str = "s-story") -> None:
        self.must(
            command(
                "init",
                store_id,
                "records",
                {"muniment": "0"},
                "0" * 16,
                "a" * 44,
                f"muniment/{store_id}",
                SOLO,
            )
        )
        self.must(
            command(
                "identity.add",
                "alice",
                "human",
                keys.key_id(self.key),
                keys.public_key_b64(self.key.public_key()),
            )
        )

    def taken(self, name: str) -> None:
        """An intake with a manifest and one file in evidence."""
        entry = self.blob("intake-file", f"source of {name}{self.salt}".encode())
        listed = {key: entry[key] for key in ("sha256", "blake3", "bytes")}
        files = [{"path": "a.txt", "mode_exec": False, **listed}]
        manifest = canonical.encode({"files": files, "excluded": []})
        digest = canonical.digest(
            {"files": [{"path": "a.txt", "sha256": entry["sha256"], "bytes": entry["bytes"]}]}
        )
        at = "2026-09-21T00:00:00.000000Z"
        evidence = [self.blob("intake-manifest", manifest, "application/json")]
        self.must(
            command(
                "intake.add", name, digest, 1, entry["bytes"], 0, f"dir:{name}", "alice", at, [], evidence
            )
        )

    def built(self, name: str, source: str, product: str = "app", *, epoch: int = 1) -> str:
        """A build from an intake to an eligible pack, registered and verified."""
        found = self.pack_id(name)
        self.must(command("build.start", name, product, source, "", {}), key=f"start-{self.salt}{name}")
        for stage in ("ingest", "validate"):
            attempt = f"{name}-{stage}"
            self.must(command("build.stage.start", name, stage, attempt, ["true"], {"HOME": "/tmp"}))
            log = self.blob("stage-log", f"{attempt}{self.salt} ok".encode(), "text/plain")
            self.must(
                command(
                    "build.stage.finish",
                    name,
                    stage,
                    attempt,
                    "PASS",
                    0,
                    "",
                    10,
                    1,
                    1,
                    100,
                    {"name": "true"},
                    [],
                    [log],
                )
            )
        refused = self.do(command("pack.create", name, found, 1, 10, {"name": "cc", "version": "1"}, []))
        assert refused.refusal is not None, "no compile without its gate (I13)"
        self.must(command("build.gate", name, "validate", "PASS", {"tests": 1}, []))
        self.must(command("pack.create", name, found, 1, 10, {"name": "cc", "version": "1"}, []))
        self.must(command("build.reproduce", name, found))
        self.must(command("build.finish", name))
        manifest = self.blob("pack-manifest", canonical.encode({"product": product, "files": [], "n": name}))
        self.must(
            command(
                "pack.register",
                found,
                product,
                name,
                epoch,
                [1, 1],
                1,
                1,
                10,
                [],
                available=True,
                evidence=[manifest],
            )
        )
        self.must(command("pack.verify", found, "PASS", "store", [{"check": "digest", "verdict": "pass"}]))
        return found

    def declared(self, name: str = CHANNEL, cohort: str = "eu") -> None:
        self.must(command("channel.declare", name, [cohort], []))

    def released(self, name: str, pack_id: str, where: str = SLOT) -> None:
        """Create, start and promote a release of one stage."""
        self.must(command("release.create", name, pack_id, [Stage([where], 100_000, 0)]))
        self.must(command("release.start", name))
        self.must(command("release.promote", name, ""))

    def activated(self, number: int, *, where: str = SLOT, target: str = "t1", waive: bool = True) -> None:
        """All steps of an activation of what the slot should run."""
        name, at = f"a-{number}{self.salt}", (where, target)
        self.must(command("activation.plan", name, *at, f"/srv/{target}", "folder", "", waive))
        self.must(command("activation.step", name, *at, "fetched", {"files": 1}))
        self.must(command("activation.verified", name, *at, [{"check": "digest", "verdict": "pass"}]))
        self.must(command("activation.step", name, *at, "staged", {"slot": "a"}))
        switched = self.must(command("activation.switch", name, *at, waive)).events[0].data
        self.must(command("activation.confirm", name, *at, switched["pack"]))

    def healthy(self, where: str = SLOT, target: str = "t1", status: str = "HEALTHY") -> None:
        self.must(command("health.report", where, target, status, [{"name": "errors", "value": 0}]))

    def whole(self) -> dict[str, str]:
        """Two packs, two releases, a rollback, an incident, refusals, pins and freezes, a signed record."""
        self.init()
        self.taken("in-1")
        first = self.built("b-1", "in-1")
        self.declared()
        self.released("r-1", first)
        self.activated(1)
        self.healthy()
        self.must(command("release.complete", "r-1"))
        self.taken("in-2")
        second = self.built("b-2", "in-2")
        self.must(command("channel.pin", SLOT, first, ""), reason="hold for audit", sign=True)
        self.must(command("release.create", "r-2", second, [Stage([SLOT], 100_000, 0)]))
        refused = self.do(command("release.start", "r-2"))
        assert refused.refusal is not None, "R9: pinned"
        self.must(command("channel.unpin", SLOT), reason="audit over")
        self.must(command("release.start", "r-2"))
        self.must(command("release.promote", "r-2", ""))
        self.activated(2, waive=False)
        self.healthy(status="UNHEALTHY")
        self.must(command("rollback", "rb-1", SLOT, "t1", "", "health_regressed"), reason="errors")
        self.activated(3, waive=False)
        self.healthy()
        self.must(command("incident.declare", "SEV2", CHANNEL, "errors after r-2", second), actor="bob")
        note = self.blob("note", f"screenshot{self.salt}".encode(), "image/png")
        self.must(command("incident.note", "i-1", "it was the cache", "tool-behavior", [note]))
        self.must(command("channel.freeze", "prod", "fz-1", "FORWARD", ""))
        self.must(command("channel.unfreeze", "prod", "fz-1"))
        self.must(command("pack.block", second, "prod", "bl-1", "CVE-1"))
        self.must(command("clock.accept", 7))
        return {"first": first, "second": second}


def grown() -> tuple[MemoryLog, Story]:
    """The whole story on a log of one's own, and who tells it."""
    clock = Clock()
    log = MemoryLog("records", clock=clock)
    teller = Story(log, clock)
    teller.whole()
    return log, teller


def model_of(log: Log, until: int | None = None) -> ReadModel:
    model = ReadModel()
    DRIVER.fold(model, log.pages(until=until))
    return model


def digests_of(model: ReadModel) -> dict[str, str]:
    """The digest of every projection, by its name."""
    return {p.name: digest.full(p, model) for p in ALL}


def raw(log: Log, **changed: Any) -> dict[str, Any]:
    """A record of the log as another one, with some fields of its envelope changed."""
    record = json.loads(next(log.read(after=3, until=4))[1])
    return {**record, "id": "00000000-0000-7000-8000-000000000000", "recorded_at": "", **changed}


def append_raw(log: Log, **changed: Any) -> None:
    """Append it past the handler, which would refuse it."""
    record = raw(log, **changed)
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    head, mark, tail = text.encode().partition(b'"recorded_at":"')
    log.append([Draft(record["id"], record["type"], tuple(record["tags"]), head + mark, tail)])
