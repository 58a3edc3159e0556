"""What is refused, and with which exit code: usage 2, not found 3, authority 4, conflict 5, rules 6, wrong 7, unavailable 8,
unfit 9, invalid 10."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SLOT = "prod/stable/all"
NONE = "sha256:" + "a" * 64

# words, exit code, rule or error code; all at the moment `released`
NO = [
    # usage
    (["chanel", "show"], 2, "usage"),
    (["channel", "shw"], 2, "usage"),
    (["channel", "show", "--stor", "x"], 2, "usage"),
    (["channel", "show", "-o", "xml"], 2, "usage"),
    (["channel", "declare", "prod"], 2, "name.path"),
    (["channel", "declare", "Prod/stable"], 2, "name.path"),
    (["channel", "declare", "prod/stable", "--cohort", "a b"], 2, "name.syntax"),
    (["channel", "pin", SLOT, "--pack", "build:b-1", "--expires", "soon"], 2, "time.syntax"),
    (["channel", "pin", SLOT, "--pack", "build:b-1", "--expires", "2026-11-20T09:00:00"], 2, "time.syntax"),
    (["channel", "freeze", "a/b/c/d"], 2, "name.path"),
    (["channel", "freeze", "prod", "--kind", "SOME"], 2, "usage"),
    (["channel", "list", "--as-of", "#999999"], 3, "reading.position"),
    (["channel", "list", "--since", "1h"], 2, "cli.option_unused"),
    (["channel", "list", "--reason", "x"], 2, "usage"),
    (["--dry-run", "channel", "list"], 2, "cli.option_unused"),
    (["channel", "list", "--where", "channel"], 2, "cli.where"),
    (["channel", "list", "--where", "nothing=1"], 2, "cli.where"),
    (["channel", "list", "--fields", "nothing"], 2, "cli.fields"),
    (["channel", "list", "--fields", "channel,,x"], 2, "usage"),
    (["channel", "list", "--limit", "0"], 2, "usage"),
    (["channel", "list", "--cursor", "nowhere"], 2, "cli.cursor"),
    (["build", "start", "--intake", "in-1"], 2, "usage"),
    (["build", "start", "--product", "a/b", "--intake", "in-1"], 2, "name.syntax"),
    (["build", "start", "--product", "a", "--intake", "in-1", "--config", "x"], 2, "cli.pair"),
    (["build", "start", "--product", "a", "--intake", "in-1", "--pin", "x=1", "--pin", "x=2"], 2, "cli.pair"),
    (["build", "stage", "validate", "--build", "b-1", "--timeout", "0", "--", "true"], 2, "usage"),
    (["build", "gate", "validate", "--build", "b-1"], 2, "gate.source"),
    (["build", "gate", "validate", "--build", "b-1", "--verdict", "PASS"], 2, "gate.reason"),
    (["build", "waive", "validate", "--build", "b-1"], 2, "usage"),
    (["build", "reproduce", "--build", "b-1"], 2, "build.second"),
    (["pack", "create", "one", "--build", "b-1", "--reads", "3-1"], 2, "cli.reads"),
    (["release", "create", "--pack", "build:b-1", "--to", "prod"], 3, "reading.reference"),
    (["release", "create", "--pack", "build:b-1", "--to", f"{SLOT},soak=long"], 2, "cli.duration"),
    (["release", "create", "--pack", "build:b-1", "--to", f"{SLOT},percent=101"], 2, "cli.stage"),
    (["release", "create", "--pack", "build:b-1", "--to", f"{SLOT},colour=red"], 2, "cli.stage"),
    (["release", "promote", "r-2", "--to", "prod"], 2, "name.path"),
    (["rollback", SLOT, "--trigger", "mood"], 2, "usage"),
    (["health", "report", SLOT, "--status", "FINE"], 2, "usage"),
    (["health", "report", SLOT, "--status", "HEALTHY", "--signal", "x"], 2, "cli.pair"),
    (["health", "collect", SLOT], 2, "health.no_probe"),
    (["incident", "declare", "--scope", "prod", "--severity", "SEV9", "--summary", "x"], 2, "usage"),
    (["incident", "close", "i-1", "--cause", "x", "--action", "only, three, parts"], 2, "incident.action"),
    (["key", "revoke", "xyz"], 2, "key.id"),
    (["identity", "add", "alice"], 2, "identity.key"),
    (["identity", "add", "alice", "--public-key", "!!"], 2, "identity.public_key"),
    (["identity", "add", "alice", "--public-key", "AAAA"], 2, "identity.public_key"),
    (["history", "list", "--where", "colour=red"], 2, "history.where"),
    (["history", "list", "--where", "actor=a", "--where", "actor=b"], 2, "history.where"),
    (["history", "list", "--cursor", "x"], 2, "history.cursor"),
    (["verify", "store", "--against", "7:xyz"], 2, "verify.against"),
    (["help", "exit-code"], 2, "usage"),
    (["completion", "tcsh"], 2, "usage"),
    # not found
    (["intake", "show", "in-9"], 3, "intake.unknown"),
    (["build", "show", "b-9"], 3, "build.unknown"),
    (["build", "stage", "validate", "--", "true"], 3, "build.none_open"),
    (["pack", "show", "abcdef012345"], 3, "reading.reference"),
    (["pack", "register", "build:b-2"], 3, "pack.none"),
    (["pack", "verify", NONE], 3, "pack.unknown"),
    (["release", "show", "r-9"], 3, "reading.reference"),
    (["incident", "show", "i-1"], 3, "incident.unknown"),
    (["incident", "timeline", "i-1"], 3, "reading.reference"),
    (["incident", "note", "i-1", "--text", "x", "--attach", "absent"], 3, "incident.attachment"),
    (["channel", "show", "lab"], 3, "slot.unknown"),
    (["history", "show", "#999999"], 3, "reading.position"),
    (["explain", "nobody"], 3, "reading.reference"),
    (["active", "--target", "nowhere"], 3, "target.absent"),
    (["health", "report", "prod/stable/us", "--status", "HEALTHY"], 3, "target.none"),
    (["health", "report", SLOT, "--status", "HEALTHY", "--target", "other"], 3, "target.unknown"),
    (["policy", "publish", "absent.json"], 3, "policy.none"),
    (["schema", "show", "channel.pined"], 3, "schema.unknown"),
    (["channel", "list", "--sign", "nobody"], 2, "usage"),
    (["channel", "unpin", SLOT, "--sign", "nobody"], 3, "key.none"),
    # conflict
    (["channel", "unpin", SLOT, "--expect", "1"], 5, "decision.expected"),
    (["activate", SLOT, "--target", "edge", "--name", "other"], 5, "target.other"),
    # rules
    (["build", "start", "--product", "a", "--intake", "in-9"], 3, "intake.unknown"),
    (["build", "cancel", "b-1"], 6, "build.ended"),
    (["build", "cancel", "b-9"], 3, "build.unknown"),
    (["build", "finish", "--build", "b-1"], 6, "build.ended"),
    (["pack", "register", "build:b-1"], 6, "pack.registered"),
    (["pack", "block", NONE], 3, "pack.unknown"),
    (["pack", "unblock", "build:b-1", "--id", "bl-x"], 3, "pack.block_unknown"),
    (["channel", "declare", "prod/nightly"], 6, "channel.risk_unknown"),
    (["channel", "declare", "prod/stable"], 6, "channel.declared"),
    (["channel", "declare", "prod/lts", "--upstream", "lab/lts"], 3, "channel.upstream_unknown"),
    (["channel", "pin", "lab/stable", "--pack", "build:b-1"], 3, "channel.undeclared"),
    (["channel", "pin", SLOT, "--pack", "build:b-1", "--expires", "2020-01-01T00:00:00Z"], 6, "R8.expired"),
    (["channel", "unpin", "prod"], 6, "channel.not_pinned"),
    (["channel", "unfreeze", "prod", "--id", "fz-x"], 3, "channel.freeze_unknown"),
    (["channel", "freeze", "prod", "--kind", "ALL"], 6, "R8.all_expiry"),
    (["channel", "freeze", "prod", "--kind", "ALL", "--expires", "8d"], 6, "R8.all_expiry"),
    (["channel", "baseline", "prod", "--pack", NONE], 3, "pack.unknown"),
    (["release", "promote", "r-2"], 6, "R9.pinned"),
    (["release", "promote", "r-1"], 6, "release.ended"),
    (["release", "start", "r-2"], 6, "release.state"),
    (["release", "resume", "r-2"], 6, "release.running"),
    (["release", "complete", "r-2"], 6, "release.stages_left"),
    (["release", "pause", "r-9"], 3, "release.unknown"),
    (["rollback", SLOT, "--to", "build:b-1"], 6, "R5.explicit_excluded"),
    (["slot", "attest", SLOT], 6, "R4.not_good"),
    (["slot", "unstick", SLOT, "--to", "build:b-1"], 6, "slot.not_stuck"),
    (["slot", "lift-quarantine", "prod/stable", "--pack", "build:b-1"], 6, "slot.not_quarantined"),
    (
        ["incident", "declare", "--scope", "lab", "--severity", "SEV3", "--summary", "x"],
        6,
        "incident.scope_empty",
    ),
    (["incident", "contain", "i-9"], 3, "incident.unknown"),
    (["policy", "publish", "solo"], 6, "policy.in_force"),
    (["key", "revoke", "0" * 16], 3, "key.unknown"),
]


@pytest.mark.parametrize(
    ("words", "code", "name"), NO, ids=lambda value: " ".join(value) if isinstance(value, list) else None
)
def test_no(
    place: Callable[[str], Path], cli: Callable[..., Any], words: list[str], code: int, name: str
) -> None:
    place("released")
    ran = cli("-o", "json", *words)
    said = ran.json
    assert (ran.code, said.get("rule") or said["code"], said["exit"]) == (code, name, code)
    if said["schema"] == "refused/1":
        assert ran.err == ""
        assert said["next"].startswith(("muniment ", "give ", "wait ", "freeze "))
    else:
        assert ran.out == ""
    plain = cli(*words, "--dry-run") if said["schema"] == "refused/1" else cli(*words)
    assert plain.code == code, "the same in words, and in a dry run"
    assert (plain.out if said["schema"] == "refused/1" else plain.err).split(maxsplit=1)[0] in (
        "refused",
        "usage",
        "not",
        "conflict",
    )


@pytest.mark.parametrize(
    "words", [["channel", "show"], ["init", "--policy", "absent"], ["channel", "unpin", "prod"]]
)
def test_no_store_is_not_found(
    built: Path, cli: Callable[..., Any], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUNIMENT_STORE", str(built / "nothing"))
    assert cli("-o", "json", *words).code == 3
    assert not (built / "nothing").exists()


def test_another_kind_of_store_is_usage(built: Path, cli: Callable[..., Any]) -> None:
    assert cli("--store", "mysql://host/db", "channel", "show").code == 2
    assert cli("--store", "postgresql:host/db", "channel", "show").code == 2


def test_init_twice_is_a_conflict(built: Path, cli: Callable[..., Any]) -> None:
    assert cli("init").code == 5


def test_authority_is_4(built: Path, cli: Callable[..., Any]) -> None:
    """Policy team asks for two people; one may not unblock. A key that is bound to nobody is refused too."""
    cli("pack", "block", "build:b-1", "--id", "bl-1", "--reason", "look")
    assert cli("policy", "publish", "team", "--reason", "two people").code == 0
    said = cli("pack", "unblock", "build:b-1", "--id", "bl-1", "--reason", "fine", "-o", "json")
    assert (said.code, said.json["rule"]) in ((4, "R10.approvals"), (4, "R10.key_needed"))
    cli("key", "create", "mallory")
    said = cli("channel", "freeze", "prod", "--sign", "mallory", "-o", "json")
    assert (said.code, said.json["rule"]) == (4, "R10.key_unknown")


def test_signed_commands_are_the_identity_s(built: Path, cli: Callable[..., Any]) -> None:
    cli("key", "create", "alice")
    key = cli("identity", "add", "alice", "--key", "alice", "-q").out.strip()
    assert cli("--sign", "alice", "channel", "freeze", "prod", "--id", "fz-1").code == 0
    record = cli("history", "show", "prod", "-o", "json")
    assert record.code == 3
    newest = cli("history", "list", "--limit", "1", "-o", "json").json["data"][0]
    assert (newest["actor"], newest["type"]) == ("alice", "channel.frozen/1")
    assert cli("key", "revoke", key, "--reason", "lost").code == 0
    said = cli("channel", "freeze", "prod", "--sign", "alice", "-o", "json")
    assert (said.code, said.json["rule"]) == (4, "R10.key_revoked")


def test_an_idempotency_key_with_other_content_is_a_conflict(built: Path, cli: Callable[..., Any]) -> None:
    first = cli("channel", "freeze", "prod", "--id", "fz-1", "--idempotency-key", "k", "-o", "json").json
    again = cli("channel", "freeze", "prod", "--id", "fz-1", "--idempotency-key", "k", "-o", "json").json
    assert again["data"]["repeated"] is True
    assert again["data"]["positions"] == first["data"]["positions"]
    other = cli("channel", "freeze", "prod/stable", "--idempotency-key", "k", "-o", "json")
    assert (other.code, other.json["code"]) == (5, "decision.key_reused")


def test_the_same_refusal_within_a_minute_is_one_record(built: Path, cli: Callable[..., Any]) -> None:
    first = cli("channel", "unpin", "prod", "-o", "json").json
    again = cli("channel", "unpin", "prod", "-o", "json").json
    assert (again["position"], again["repeated"]) == (first["position"], True)


def test_a_refusal_is_a_record_and_explains_itself(released: Path, cli: Callable[..., Any]) -> None:
    said = cli("release", "promote", "r-2", "-o", "json").json
    assert said["cause"]["reason"] == "hold for audit"
    found = cli("explain", f"#{said['position']}", "-o", "json").json["data"]
    assert (found["answer"], found["rule"]["id"]) == ("refused", "R9.pinned")


def test_a_dry_run_writes_nothing_and_exits_the_same(released: Path, cli: Callable[..., Any]) -> None:
    size = cli("history", "list", "-o", "json").json["as_of"]
    refused = cli("release", "promote", "r-2", "--dry-run", "-o", "json")
    assert (refused.code, refused.json["position"], refused.json["dry_run"]) == (6, None, True)
    done = cli("channel", "unpin", "prod/stable/all", "--dry-run")
    assert done.code == 0
    first, expect, last = done.out.splitlines()
    assert (first, last) == ("would unpin prod/stable/all", "nothing was written")
    assert expect.startswith("  expect  --expect ")
    for words in (["rollback", SLOT], ["activate", SLOT, "--target", "edge"], ["pack", "create", "one"]):
        assert cli(*words, "--dry-run").code in (0, 3, 6)
    assert cli("history", "list", "-o", "json").json["as_of"] == size


def test_a_failing_gate_is_7_and_an_unreadable_report_8(built: Path, cli: Callable[..., Any]) -> None:
    cli("build", "start", "--product", "atlas", "--intake", "in-1", "--id", "b-7")
    report = built / "report.json"
    report.write_text("not a report")
    assert cli("build", "gate", "validate", "--from", str(report)).code == 8
    report.write_text('{"verdict":"FAIL","checks":[{"id":"a","verdict":"FAIL"}]}')
    assert cli("build", "gate", "validate", "--from", str(report)).code == 7
    assert cli("build", "stage", "compile", "--", "true").code == 6
    said = cli("build", "finish", "-o", "json")
    assert (said.code, said.json["data"]["outcome"]) == (7, "REJECTED")


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 1", 7), ("kill -9 $$", 8)])
def test_a_stage_says_no_or_cannot_decide(
    built: Path, cli: Callable[..., Any], script: str, code: int
) -> None:
    cli("build", "start", "--product", "atlas", "--intake", "in-1", "--id", "b-7")
    assert cli("build", "stage", "validate", "-o", "json", "--", "sh", "-c", script).code == code


def test_several_unfinished_builds_must_be_named(built: Path, cli: Callable[..., Any]) -> None:
    for name in ("b-7", "b-8"):
        cli("build", "start", "--product", "atlas", "--intake", "in-1", "--id", name)
    said = cli("build", "finish", "-o", "json")
    assert (said.code, said.json["code"]) == (2, "build.ambiguous")
    assert "b-7" in said.json["message"]


def test_no_candidate_is_stuck_and_6(released: Path, cli: Callable[..., Any]) -> None:
    """The only good pack is the one that fails: the slot is STUCK, an incident is declared."""
    cli("channel", "unpin", SLOT)
    ran = cli("rollback", SLOT, "-o", "json")
    assert ran.code == 6
    assert ran.json["data"]["targets"][0]["reason"] == "no_candidate"
    assert cli("incident", "show", "i-1").code == 0
    assert cli("rollback", SLOT).code == 6
    said = cli("slot", "unstick", SLOT, "--to", "build:b-1", "-o", "json")
    assert said.code == 0
    assert said.json["data"]["events"][0]["type"] == "slot.unstuck/1"


def test_a_damaged_pack_is_7(built: Path, cli: Callable[..., Any]) -> None:
    for blob in (built / "store" / "evidence").rglob("*"):
        if blob.is_file() and blob.read_bytes() == b"edition one\n":
            blob.chmod(0o600)
            blob.write_bytes(b"edition owe\n")
    said = cli("pack", "verify", "build:b-1", "-o", "json")
    assert (said.code, said.json["data"]["verdict"]) == (7, "FAIL")
    assert cli("pack", "verify", "build:b-1").out.startswith("FAIL")
    assert cli("verify", "store").code == 7


def test_a_failing_probe_is_7_and_a_silent_one_8(released: Path, cli: Callable[..., Any]) -> None:
    bad = """printf '{"status":"UNHEALTHY","signals":[{"name":"errors","observed":9}]}'"""
    assert cli("health", "collect", SLOT, "-o", "json", "--", "sh", "-c", bad).code == 7
    assert cli("health", "collect", SLOT, "-o", "json", "--", "sh", "-c", "echo hm").code == 8


def test_an_open_key_file_is_unfit(built: Path, cli: Callable[..., Any]) -> None:
    path = cli("key", "create", "alice", "-o", "json").json["data"]["path"]
    Path(path).chmod(0o644)
    assert cli("channel", "freeze", "prod", "--sign", "alice").code == 9
    assert "alice" in cli("key", "list").out


def test_an_invalid_policy_is_10(built: Path, cli: Callable[..., Any]) -> None:
    (built / "policy.json").write_text('{"policy":"mine"}')
    assert cli("policy", "publish", "policy.json").code == 10


def test_a_bug_is_1_with_a_fault_id(
    built: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("muniment.cli.channel._board", broken)
    ran = cli("channel", "show")
    assert ran.code == 1
    assert "f-" in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in cli("channel", "show", "-v").err


def test_interrupted_is_130(built: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("muniment.cli.channel._board", stop)
    assert cli("channel", "show").code == 130


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_store_is_unavailable(built: Path, cli: Callable[..., Any]) -> None:
    (built / "store" / "log.db").chmod(0o400)
    assert cli("channel", "freeze", "prod").code == 8
