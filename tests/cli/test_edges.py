"""Where an answer could say more than is true: a record that says otherwise, a full disk, an empty name, a terminal."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from muniment.cli.tee import Escaped
from muniment.cli.verify import lines

SLOT = "prod/stable/all"
Cli = Callable[..., Any]
LINK = ["sh", "-c", 'ln -s /etc/hostname "$0"/link', "{output}"]
FIFO = ["sh", "-c", 'mkfifo "$0"/pipe; exit 3', "{output}"]


@pytest.fixture
def working(built: Path, cli: Cli) -> Path:
    """An unfinished build b-7."""
    assert cli("build", "start", "--product", "atlas", "--intake", "in-1", "--id", "b-7").code == 0
    return built


# -- the record has the last word -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "exit_code"), [(LINK, 0), (FIFO, 3)], ids=["link", "fifo"])
def test_a_stage_says_what_its_record_says(working: Path, cli: Cli, words: list[str], exit_code: int) -> None:
    ran = cli("build", "stage", "validate", "--", *words)
    assert ran.code == 8
    assert ran.out.startswith(f"ERROR  stage validate of build b-7, exit {exit_code}, ")
    assert "outputs cannot be kept" in ran.out
    last = cli("history", "list", "--where", "build=b-7", "--limit", "1", "-o", "json").json["data"][0]
    assert last["type"] == "build.stage_finished/1"
    assert "ERROR" in last["summary"]
    again = cli("build", "stage", "validate", "-o", "json", "--", *words)
    assert (again.code, again.json["data"]["status"]) == (8, "ERROR")


def test_a_command_that_cannot_start_has_no_exit_code(working: Path, cli: Cli) -> None:
    ran = cli("build", "stage", "validate", "--", "no-such-program-here")
    assert ran.code == 8
    assert "None" not in ran.out
    assert "not run to an end" in ran.out


def test_a_stage_with_one_output_has_one_file(working: Path, cli: Cli) -> None:
    ran = cli("build", "stage", "validate", "--", "sh", "-c", 'echo x > "$0"/x', "{output}")
    assert (ran.code, "outputs 1 file in " in ran.out) == (0, True)


# -- what a stage prints --------------------------------------------------------------------------------------------

ESCAPES = b"\x1b]0;owned\x07 red \x1b[31m\r\nnext\ttab \xe2\x80\xae\n"


def test_a_terminal_is_not_driven_by_a_stage(working: Path, cli: Cli) -> None:
    words = ["sh", "-c", "printf '\\033[31m\\007 a\\tb\\n' >&2"]
    shown = cli("build", "stage", "ingest", "--", *words, tty=True)
    assert shown.err == "\\x1b[31m\\x07 a\tb\n"
    raw = cli("build", "stage", "extract", "--", *words)
    assert raw.code == 0, raw
    assert raw.err == "\x1b[31m\x07 a\tb\n"
    page = cli("history", "list", "--where", "build=b-7", "--limit", "1", "-o", "json").json["data"][0]
    record = cli("history", "show", f"#{page['position']}", "-o", "json").json["data"]["record"]
    kept = next(item for item in record["evidence"] if item["role"] == "stage-stderr")
    assert kept["bytes"] == len(b"\x1b[31m\x07 a\tb\n")


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_characters_cut_by_a_chunk_are_whole_again(step: int) -> None:
    stream = io.BytesIO()
    shown = Escaped(stream)
    for at in range(0, len(ESCAPES), step):
        shown.write(ESCAPES[at : at + step])
    text = stream.getvalue().decode()
    assert text == "\\x1b]0;owned\\x07 red \\x1b[31m\\r\nnext\ttab \\u202e\n"


# -- an answer that cannot be printed -------------------------------------------------------------------------------


def full(*words: str, errors: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command line as a process whose standard output (or error) is a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("this host has no /dev/full")
    program = [sys.executable, "-c", "from muniment.cli.main import main; main()", *words]
    with Path("/dev/full").open("w") as disk:
        out, err = (subprocess.PIPE, disk) if errors else (disk, subprocess.PIPE)
        return subprocess.run(program, stdout=out, stderr=err, text=True, timeout=60)


@pytest.mark.parametrize(
    "words",
    [
        ["history", "list"],
        ["history", "list", "-o", "csv"],
        ["history", "list", "-o", "json"],
        ["history", "follow", "--after", "1", "--limit", "2"],
        ["build", "stage", "--help"],
        ["--version"],
        ["help", "exit-codes"],
    ],
    ids=" ".join,
)
def test_an_answer_for_a_full_disk_is_unavailable(told: Path, words: list[str]) -> None:
    done = full(*words)
    assert done.returncode == 8, done.stderr
    assert "the answer could not be printed: No space left on device" in done.stderr
    assert "bug" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "recorded" not in done.stderr


def test_a_write_whose_answer_is_lost_says_what_it_recorded(built: Path, cli: Cli) -> None:
    size = cli("history", "list", "-o", "json").json["as_of"]
    done = full("channel", "freeze", "prod", "--id", "fz-1", "--expires", "2h")
    assert done.returncode == 8
    assert f"  recorded  #{size + 1}\n" in done.stderr
    assert "do not repeat" in done.stderr
    error = json.loads(full("channel", "unfreeze", "prod", "--id", "fz-1", "-o", "json").stderr)
    assert (error["code"], error["context"]["recorded"]) == ("cli.output", [f"#{size + 2}"])
    refused = full("channel", "unpin", "prod")
    assert (refused.returncode, f"  recorded  #{size + 3}\n" in refused.stderr) == (8, True)
    dry = full("channel", "freeze", "prod", "--dry-run")
    assert (dry.returncode, "recorded" in dry.stderr) == (8, False)
    assert cli("history", "list", "-o", "json").json["as_of"] == size + 3


def test_notes_and_errors_for_a_full_disk_do_not_change_the_exit_code(told: Path) -> None:
    assert full("build", "show", "b-9", errors=True).returncode == 3
    done = full("history", "list", "--limit", "1", errors=True)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)


# -- given and empty ------------------------------------------------------------------------------------------------

EMPTY = [
    ["history", "list", "--store", ""],
    ["--store", "", "history", "list"],
    ["history", "list", "--as-of", ""],
    ["history", "list", "--cursor", " "],
    ["history", "list", "--where", ""],
    ["build", "start", "--product", "", "--intake", "in-1"],
    ["build", "start", "--product", "atlas", "--intake", "in-1", "--id", ""],
    ["build", "finish", "--build", ""],
    ["build", "gate", "validate", "--build", "b-1", "--from", ""],
    ["intake", "add", "one", "--id", ""],
    ["intake", "add", "one", "--origin", ""],
    ["intake", "add", ""],
    ["release", "create", "--pack", "build:b-1", "--to", SLOT, "--id", ""],
    ["release", "promote", "r-2", "--to", ""],
    ["channel", "freeze", "prod", "--id", ""],
    ["channel", "freeze", "prod", "--expires", ""],
    ["channel", "unpin", SLOT, "--reason", ""],
    ["channel", "unpin", SLOT, "--idempotency-key", ""],
    ["channel", "unpin", SLOT, "--sign", ""],
    ["rollback", SLOT, "--to", ""],
    ["rollback", SLOT, "--target", ""],
    ["activate", SLOT, "--target", ""],
    ["incident", "declare", "--scope", "prod", "--severity", "SEV2", "--summary", ""],
    ["incident", "note", "i-1", "--text", " \t"],
    ["incident", "resolve", "i-1", "--resolution", ""],
    ["incident", "close", "i-1", "--cause", "", "--action", "write,a,2026-12-01,t"],
    ["key", "create", ""],
    ["build", "show", ""],
]


@pytest.mark.parametrize("words", EMPTY, ids=" ".join)
def test_what_is_given_and_empty_is_not_taken_as_absent(released: Path, cli: Cli, words: list[str]) -> None:
    ran = cli(*words, "-o", "json")
    assert (ran.code, ran.json["code"]) == (2, "cli.empty")


def test_a_word_of_a_command_may_be_empty(working: Path, cli: Cli) -> None:
    assert cli("build", "stage", "validate", "-q", "--", "sh", "-c", 'test -z "$0"', "").code == 0


# -- what to expect -------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_to_expect_and_the_real_run_may_hold_it_to_that(built: Path, cli: Cli) -> None:
    words = ["channel", "freeze", "prod", "--id", "fz-1", "--expires", "2h"]
    said = cli(*words, "--dry-run").out.splitlines()
    number = cli(*words, "--dry-run", "-o", "json").json["data"]["expect"]
    assert said[-2:] == [f"  expect  --expect {number}", "nothing was written"]
    late = cli("channel", "freeze", "prod", "--id", "fz-2", "--expires", "2h")
    assert late.code == 0
    assert cli(*words, "--expect", str(number)).code == 5
    again = cli(*words, "--dry-run", "-o", "json").json["data"]["expect"]
    assert again > number
    real = cli(*words, "--expect", str(again), "-o", "json").json
    assert real["data"]["expect"] is None


def test_every_kind_of_dry_run_has_the_number(released: Path, cli: Cli) -> None:
    switch = ["activate", SLOT, "--target", "edge"]
    for before, words in (
        ([], ["clock", "accept"]),
        (["channel", "unpin", SLOT], ["release", "promote", "r-2"]),
        (["release", "promote", "r-2"], switch),
        (switch, ["rollback", SLOT]),
    ):
        assert not before or cli(*before).code == 0
        out = cli(*words, "--dry-run").out
        assert re.search(r"^  expect  --expect \d+$", out, re.MULTILINE), (words, out)


# -- smaller things -------------------------------------------------------------------------------------------------


def test_a_channel_with_one_cohort_is_a_stage_of_a_release(built: Path, cli: Cli) -> None:
    words = ["release", "create", "--pack", "build:b-1", "--id", "r-7", "--to"]
    assert cli(*words, "prod/stable,soak=1h").code == 0
    assert cli("release", "show", "r-7", "-o", "json").json["data"]["stages"][0]["slots"] == [SLOT]
    made = cli("channel", "declare", "prod/canary", "--cohort", "eu", "--cohort", "us")
    assert made.code == 0, made
    ran = cli("release", "create", "--pack", "build:b-1", "--to", "prod/canary", "-o", "json")
    assert (ran.code, ran.json["code"]) == (2, "reading.ambiguous")


def test_a_refused_rollback_of_several_targets_has_the_whole_layout(told: Path, cli: Cli) -> None:
    assert cli("activate", SLOT, "--target", "edge2", "--name", "edge2").code == 0
    assert cli("channel", "freeze", SLOT, "--kind", "ALL", "--expires", "1h", "--reason", "look").code == 0
    ran = cli("rollback", SLOT)
    assert ran.code == 6
    assert ran.out.count("refused  ") == 2
    assert ran.out.count("  look   muniment ") == 2


@pytest.mark.parametrize("ref", ["#999999", "#999999999999999999", "#" + "9" * 40])
def test_a_position_that_is_not_there_is_not_found(built: Path, cli: Cli, ref: str) -> None:
    assert cli("history", "show", ref).code == 3
    assert cli("explain", ref).code == 3


def test_a_store_that_cannot_be_read_is_not_to_be_restored() -> None:
    def report(*verdicts: str) -> dict[str, Any]:
        row = {"claim": "it holds", "detail": "no permission", "count": 1, "findings": []}
        checks = [{"id": f"c{at}", "verdict": verdict, **row} for at, verdict in enumerate(verdicts)]
        head = {"store_id": "", "size": 0, "root": ""}
        return {"head": head, "checks": checks, "touched": {}, "information": {}, "provable_prefix": 0}

    said = lines(report("skipped", "skipped", "skipped"), 8, verbose=False)
    assert said[1:] == [
        "  skipped  all of them: no permission",
        "  next     let this user read what could not be read (permission, mount, lock), then verify again",
    ]
    some = lines(report("pass", "skipped", "skipped"), 8, verbose=False)
    assert sum(line.startswith("  skipped  c") for line in some) == 2
    wrong = lines(report("fail", "skipped"), 7, verbose=False)
    assert "(1 finding)" in wrong[1]
    assert wrong[-1].startswith("  next     keep a copy of the store")


def test_a_lack_of_approvals_says_that_this_version_has_none(built: Path, cli: Cli) -> None:
    assert cli("policy", "publish", "team").code == 0
    cli("release", "create", "--pack", "build:b-1", "--id", "r-7", "--to", SLOT)
    ran = cli("release", "start", "r-7")
    assert (ran.code, ran.out.startswith("refused  R10 approvals: ")) == (4, True)
    assert "  note   approvals are no part of this version" in ran.out


def test_standard_input_is_one_file(built: Path, cli: Cli) -> None:
    ran = cli("intake", "add", "-", "--id", "in-9", stdin=b"towns\n")
    assert (ran.code, "1 file, " in ran.out) == (0, True)
    assert "one file named stdin" in cli("intake", "add", "--help").out


def test_a_pack_that_lacks_signatures_is_said_before_it_is_too_late(working: Path, cli: Cli) -> None:
    document = cli("policy", "show", "-o", "json").json["data"]["document"]
    document["verification"]["pack_signatures"] = 1
    (working / "signed.json").write_text(json.dumps(document))
    assert cli("policy", "publish", "./signed.json").code == 0
    assert cli("build", "gate", "validate", "--verdict", "PASS", "--reason", "read").code == 0
    made = cli("pack", "create", "one", "--build", "b-7")
    assert (made.code, "1 signature on a pack, this one has 0: give pack create --key" in made.err) == (
        0,
        True,
    )
    ended = cli("build", "finish", "--build", "b-7")
    assert "start a new build, and give pack create --key KEY" in ended.err
    assert cli("build", "finish", "--build", "b-7", "--dry-run", "-q").err == ""


def test_a_pack_that_needs_no_signature_has_no_note(working: Path, cli: Cli) -> None:
    assert cli("build", "gate", "validate", "--verdict", "PASS", "--reason", "read").code == 0
    made = cli("pack", "create", "one", "--build", "b-7")
    assert (made.code, made.err) == (0, "")


def test_a_key_is_revoked_by_the_name_of_its_identity(built: Path, cli: Cli) -> None:
    key = cli("key", "create", "alice", "-q").out.strip()
    assert cli("key", "revoke", "alice").code == 2
    assert cli("identity", "add", "alice", "--key", "alice").code == 0
    assert cli("key", "revoke", "alice", "-q").out.strip() == key
    assert cli("key", "revoke", "alice").code == 2


# -- a refusal never spoils the proof ------------------------------------------------------------------------------------


def test_a_refused_key_leaves_a_store_that_verifies(built: Path, cli: Cli) -> None:
    """A record signed by a key that is not bound, or is revoked, would fail `verify store` for ever."""
    assert cli("key", "create", "al").code == 0
    assert cli("intake", "add", "one", "--id", "in-7", "--sign", "al").code == 4
    assert cli("verify", "store").code == 0
    assert cli("identity", "add", "al", "--key", "al").code == 0
    assert cli("intake", "add", "one", "--id", "in-8", "--sign", "al").code == 0
    assert cli("key", "revoke", "al").code == 0
    assert cli("intake", "add", "one", "--id", "in-9", "--sign", "al").code == 4
    ran = cli("verify", "store", "--decisions", "-o", "json")
    assert ran.code == 0, ran.out
    refused = cli("history", "list", "--where", "type=command.refused", "-o", "json").json["data"]
    assert sum("R10.key" in row["summary"] for row in refused) == 2
