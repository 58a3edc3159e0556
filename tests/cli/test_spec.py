"""`validate`, `describe`, `dot` as commands: answers, exit codes, records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHORT = """\
single_ring.stages.0.op=count
single_ring.stages.0.id=lines
spec.model=single_ring
spec.name=demo
spec.version=1
"""
CLI = Callable[..., Any]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MUNIMENT_SPEC", raising=False)
    path = tmp_path / "demo.kv"
    path.write_text(SHORT)
    return path


def test_validate_prints_the_canonical_form(cli: CLI, spec: Path) -> None:
    ran = cli("validate", "--spec", str(spec))
    assert (ran.code, ran.out.split("\n")[0]) == (0, "spec.version=1")
    again = cli("validate", "--spec=-", "--canonical", stdin=ran.out.encode())
    assert (again.code, again.out) == (0, ran.out)
    digest = "sha256:" + hashlib.sha256(ran.out.encode()).hexdigest()
    assert digest in ran.err
    assert cli("validate", "--spec", str(spec), "-q").out == digest + "\n"
    data = cli("validate", "--spec", str(spec), "-o", "json").json["data"]
    assert (data["ok"], data["spec_sha256"], data["canonical"]) == (True, digest, ran.out)
    assert (data["problems"], data["position"]) == ([], None)


def test_validate_lists_every_problem(cli: CLI, spec: Path) -> None:
    spec.write_text(SHORT.replace("=count", "=counts") + "x\n")
    ran = cli("validate", "--spec", str(spec))
    assert ran.code == 10
    assert [line.partition(":")[0] for line in ran.out.splitlines()] == [
        "stage.unknown_op  line 1",
        "kv.syntax  line 6",
    ]
    data = cli("validate", "--spec", str(spec), "-o", "json").json["data"]
    assert (data["ok"], data["spec_sha256"], data["spec"]) == (False, None, "demo")
    assert [(each["code"], each["line"]) for each in data["problems"]] == [
        ("stage.unknown_op", 1),
        ("kv.syntax", 6),
    ]
    assert cli("validate", "--spec", str(spec), "-q").code == 10


def test_the_canonical_form_is_demanded(cli: CLI, spec: Path) -> None:
    ran = cli("validate", "--spec", str(spec), "--canonical")
    assert (ran.code, ran.out.split(" ")[0]) == (10, "kv.not_canonical")


def test_the_environment_names_the_spec_and_the_option_wins(
    cli: CLI, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUNIMENT_SPEC", str(spec))
    assert cli("validate").code == 0
    assert cli("validate", "--spec", str(spec) + "x").code == 3


@pytest.mark.parametrize("verb", ["validate", "describe", "dot"])
def test_no_spec_is_never_an_answer(cli: CLI, spec: Path, tmp_path: Path, verb: str) -> None:
    for words, code, name in (
        ((), 2, "spec.none"),
        (("--spec", ""), 2, "cli.empty"),
        (("--spec", str(tmp_path / "none.kv")), 3, "spec.file"),
        (("--spec", str(spec / "below")), 3, "spec.file"),
        (("--spec", str(tmp_path)), 8, "spec.unreadable"),
        (("--spec", str(spec), "--as-of", "1"), 2, "cli.option_unused"),
        (("--spec", str(spec), "--dry-run"), 2, "usage"),
    ):
        ran = cli(verb, *words, "-o", "json")
        assert (ran.code, ran.out, ran.json["code"]) == (code, "", name), words


@pytest.mark.parametrize("verb", ["describe", "dot"])
def test_a_bad_spec_is_neither_described_nor_drawn(cli: CLI, spec: Path, verb: str) -> None:
    spec.write_text("x\ny\n")
    ran = cli(verb, "--spec", str(spec))
    assert (ran.code, ran.out) == (10, "")
    assert "kv.syntax  line 1" in ran.err
    assert "kv.syntax  line 2" in ran.err
    said = cli(verb, "--spec", str(spec), "-o", "json").json
    assert said["code"] == "kv.syntax"
    assert len(said["context"]["problems"]) == 5


def test_describe_and_dot(cli: CLI, spec: Path) -> None:
    told = cli("describe", "--spec", str(spec))
    assert told.out.splitlines()[-1] == "  stage 0  lines  count  <- input  releases slots"
    assert cli("describe", "--spec", "-", stdin=SHORT.encode()).out == told.out
    drawn = cli("dot", "--spec", str(spec))
    assert drawn.out.startswith('digraph "demo" {\n')
    data = cli("dot", "--spec", str(spec), "--format=mermaid", "-o", "json").json["data"]
    assert (data["format"], data["text"].split("\n")[0]) == ("mermaid", "flowchart LR")
    assert data["text"] == cli("dot", "--spec", str(spec), "--format=mermaid").out
    assert cli("dot", "--spec", str(spec), "--format", "svg").code == 2


# -- records -----------------------------------------------------------------------------------------------------------


def last(cli: CLI) -> dict[str, Any]:
    """The newest record."""
    size = cli("history", "list", "-o", "json").json["as_of"]
    found = cli("history", "show", f"#{size}", "-o", "json").json["data"]
    return {**found["record"], "position": found["position"]}


def test_a_valid_spec_is_recorded_with_its_canonical_text(cli: CLI, built: Path, spec: Path) -> None:
    data = cli("validate", "--spec", str(spec), "--record", "-o", "json").json["data"]
    record = last(cli)
    assert (record["type"], record["position"]) == ("runtime.spec_validated/1", data["position"])
    assert record["data"]["spec_sha256"] == data["spec_sha256"]
    assert [item["sha256"] for item in record["evidence"]] == [data["spec_sha256"].removeprefix("sha256:")]
    assert cli("verify", "store").code == 0


def test_a_rejected_spec_is_recorded_as_it_was_given(cli: CLI, built: Path, spec: Path) -> None:
    given = SHORT.encode().replace(b"=count", b"=counts") + b"\xff\n"
    spec.write_bytes(given)
    ran = cli("validate", "--spec", str(spec), "--record", "-o", "json")
    assert ran.code == 10
    record = last(cli)
    assert (record["type"], record["position"]) == ("runtime.spec_rejected/1", ran.json["data"]["position"])
    assert [each["code"] for each in record["data"]["problems"]] == ["stage.unknown_op", "kv.syntax"]
    assert record["data"]["spec"] == "demo"
    assert [item["sha256"] for item in record["evidence"]] == [hashlib.sha256(given).hexdigest()]


def test_what_cannot_be_recorded_says_so(
    cli: CLI, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MUNIMENT_STORE", str(tmp_path / "none"))
    assert cli("validate", "--spec", str(spec), "--record").code == 3
    spec.write_text("x")
    ran = cli("validate", "--spec", str(spec), "--record", "-o", "json")
    assert ran.code == 10
    assert "no store" in ran.json["data"]["not_recorded"]
    spec.write_bytes(b"x" * ((1 << 20) + 1))
    ran = cli("validate", "--spec", str(spec), "--record", "-o", "json")
    assert (ran.code, ran.json["data"]["position"]) == (10, None)
    assert "too large" in ran.json["data"]["not_recorded"]


def test_nothing_is_recorded_without_being_asked(cli: CLI, built: Path, spec: Path) -> None:
    before = last(cli)["position"]
    cli("validate", "--spec", str(spec))
    cli("describe", "--spec", str(spec))
    assert last(cli)["position"] == before
