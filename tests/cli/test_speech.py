"""The rules of speech: result first, short on a terminal and full when piped, hostile text shown as escapes, JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muniment.app import clock
from muniment.cli import exits, output, progress, select, table, text, when
from muniment.domain.errors import UsageError

SLOT = "prod/stable/all"
HOSTILE = "red\x1b[31m\x07 \u202egnp.exe\u2066 line\nnew\ttab\x9b\u200b\ud800"
BAD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202e\u2066\ud800-\udfff]")


# -- the refusal ---------------------------------------------------------------------------------------------------


def test_a_refusal_has_the_layout_of_the_design(released: Path, cli: Callable[..., Any]) -> None:
    lines = cli("release", "promote", "r-2", tty=True).out.splitlines()
    assert re.fullmatch(r"refused  R9 pinned: prod/stable/all is pinned to pack [0-9a-f]{12}…", lines[0])
    assert re.fullmatch(
        r'  by     \S+, \d{4}-\d\d-\d\d \d\d:\d\d UTC, "hold for audit", record #\d+', lines[1]
    )
    assert re.fullmatch(r"  look   muniment history show '#\d+'", lines[2])
    assert lines[3] == "  next   muniment channel unpin prod/stable/all --reason …"
    assert len(lines) == 4


def test_a_refusal_without_a_cause_points_to_its_own_record(built: Path, cli: Callable[..., Any]) -> None:
    lines = cli("channel", "unpin", "prod").out.splitlines()
    assert lines[0] == "refused  channel.not_pinned: prod is not pinned"
    assert lines[1].startswith("  look   muniment explain '#")


def test_the_next_command_of_a_refusal_can_be_copied_from_a_terminal(
    released: Path, cli: Callable[..., Any]
) -> None:
    """A short digest in a command would name nothing; it becomes a reference that works."""
    cli("channel", "unpin", SLOT)
    cli("pack", "block", "build:b-3", "--id", "bl-1")
    lines = cli("release", "promote", "r-2", tty=True).out.splitlines()
    found = re.fullmatch(r"  next   muniment (pack show pack:[0-9a-f]{12})", lines[-1])
    assert found is not None, lines
    assert cli(*found[1].split()).code == 0


def test_a_rollback_prints_every_candidate_with_its_code(told: Path, cli: Callable[..., Any]) -> None:
    trace = cli("explain", "r-2", tty=True)
    assert trace.code == 0
    ran = cli("rollback", SLOT, "--dry-run", tty=True)
    lines = ran.out.splitlines()
    assert ran.code == 6  # back on the only good pack: nothing is left to go back to
    assert lines[0].startswith("would be STUCK: prod/stable/all target edge keeps pack ")
    assert lines[1:3] == ["  1  explicit target none given", "  2  pin             none"]
    assert lines[-1] == "nothing was written"


def test_a_chosen_candidate_says_since_when_it_is_good(released: Path, cli: Callable[..., Any]) -> None:
    cli("channel", "unpin", SLOT)
    cli("release", "promote", "r-2")
    cli("activate", SLOT, "--target", "edge")
    lines = cli("rollback", SLOT, "--dry-run", tty=True).out.splitlines()
    assert re.fullmatch(
        r"would switch prod/stable/all target edge from pack [0-9a-f]{12}… to [0-9a-f]{12}…", lines[0]
    )
    assert re.fullmatch(r"  3  LKG  [0-9a-f]{12}…\s+good since #\d+, eligible  chosen", lines[3])


# -- terminal and pipe ---------------------------------------------------------------------------------------------


def test_a_terminal_has_a_header_and_short_digests(told: Path, cli: Callable[..., Any]) -> None:
    header, *rows = cli("pack", "list", tty=True).out.splitlines()
    assert header.split() == ["PACK", "PRODUCT", "SEQ", "STATE", "VERIFIED", "SECURITY", "EPOCH", "BUILD"]
    assert all(re.match(r"[0-9a-f]{12}…  ", row) for row in rows)
    assert "\t" not in header


def test_a_pipe_has_tabs_full_digests_and_no_header(told: Path, cli: Callable[..., Any]) -> None:
    rows = cli("pack", "list").out.splitlines()
    assert len(rows) == 2
    assert all(re.match(r"sha256:[0-9a-f]{64}\tatlas\t", row) for row in rows)


def test_times_are_utc_to_the_minute_on_a_terminal_and_full_when_piped(
    told: Path, cli: Callable[..., Any]
) -> None:
    assert re.search(r"\d\d:\d\d UTC  ", cli("history", "list", tty=True).out)
    assert re.search(r"T\d\d:\d\d:\d\d\.\d{6}Z\t", cli("history", "list").out)
    assert re.search(r"\d\d:\d\d [+-]\d{4}  ", cli("history", "list", "--local", tty=True).out)


def test_nothing_is_coloured_or_drawn(
    told: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    for words in (
        ["channel", "show"],
        ["release", "promote", "r-1"],
        ["build", "show", "b-9"],
        ["verify", "store"],
    ):
        ran = cli(*words, tty=True)
        assert "\x1b" not in ran.out + ran.err
        assert cli(*words, "--no-color", "--no-input", tty=True).code == ran.code


def test_empty_lists_say_so_on_a_terminal_and_print_nothing_when_piped(
    built: Path, cli: Callable[..., Any]
) -> None:
    assert cli("incident", "list", tty=True).out == "no incidents\n"
    ran = cli("incident", "list")
    assert (ran.out, ran.err) == ("", "no incidents\n")


def test_quiet_prints_ids_only(built: Path, cli: Callable[..., Any]) -> None:
    name = cli("build", "start", "--product", "atlas", "--intake", "in-1", "-q").out
    assert re.fullmatch(r"b-[a-z2-7]{8}\n", name)
    assert cli("build", "list", "-q").out == f"b-1\n{name}"


def test_options_stand_before_the_noun_before_the_verb_and_after_it(
    told: Path, cli: Callable[..., Any]
) -> None:
    after = cli("build", "list", "-o", "json", "--fields", "build", "--where", "state=ELIGIBLE").out
    assert cli("-o", "json", "--fields", "build", "--where", "state=ELIGIBLE", "build", "list").out == after
    assert cli("--fields", "build", "build", "-o", "json", "list", "--where", "state=ELIGIBLE").out == after
    assert (
        cli("-o", "csv", "build", "list", "-o", "json", "--fields", "build", "--where", "state=ELIGIBLE").out
        == after
    )


def test_the_store_comes_from_the_option_then_the_environment(
    told: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUNIMENT_STORE", "/nonexistent")
    assert cli("build", "list").code == 3
    assert cli("build", "list", "--store", str(told / "store")).code == 0


def test_errors_are_json_when_json_was_asked_for_even_if_the_line_does_not_parse(
    cli: Callable[..., Any],
) -> None:
    for words in (["chanel", "-o", "json"], ["-ojson", "channel", "--bad"], ["x", "--output=jsonl"]):
        ran = cli(*words)
        assert ran.out == ""
        assert json.loads(ran.err)["schema"] == "error/1"


# -- hostile text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tty", [True, False])
@pytest.mark.parametrize("output", ["table", "csv", "json", "jsonl"])
def test_text_of_others_cannot_act_on_a_terminal(
    released: Path, cli: Callable[..., Any], tty: bool, output: str
) -> None:
    hostile = HOSTILE.replace("\ud800", "")
    declared = cli(
        "incident",
        "declare",
        "--scope",
        SLOT,
        "--severity",
        "SEV3",
        "--summary",
        hostile,
        "--reason",
        hostile,
    )
    assert declared.code == 0
    for words in (
        ["incident", "list"],
        ["incident", "show", "i-1"],
        ["incident", "timeline", "i-1"],
        ["history", "list"],
        ["history", "show", "i-1"],
        ["explain", "i-1"],
        ["channel", "show"],
        ["build", "show", hostile],
        [hostile],
    ):
        ran = cli(*words, "-o", output, tty=tty)
        assert not BAD.search(ran.out + ran.err), words
    shown = cli("incident", "list", "--fields", "summary", tty=tty).out
    assert "red\\x1b[31m\\x07 \\u202egnp.exe" in shown
    assert "line\\nnew\\ttab" in shown


def test_json_holds_the_very_text(released: Path, cli: Callable[..., Any]) -> None:
    hostile = HOSTILE.replace("\ud800", "")
    cli("incident", "declare", "--scope", SLOT, "--severity", "SEV3", "--summary", hostile)
    assert cli("incident", "show", "i-1", "-o", "json").json["data"]["summary"] == hostile


@given(st.text(alphabet=st.characters(codec=None)))
def test_visible_leaves_nothing_that_acts(given_text: str) -> None:
    shown = text.visible(given_text)
    assert not BAD.search(shown)
    assert "\n" not in shown
    assert text.visible(shown) == shown
    assert json.loads(text.visible_json(json.dumps([given_text], ensure_ascii=False))) == [given_text]


# -- small parts ---------------------------------------------------------------------------------------------------


def test_digests_are_cut_only_where_they_are_digests() -> None:
    digest = "0123456789abcdef" * 4
    assert text.short(f"pack sha256:{digest}, root {digest}") == "pack 0123456789ab…, root 0123456789ab…"
    assert text.short(digest + "0") == digest + "0"
    assert text.short_command(f"muniment pack show sha256:{digest}") == "muniment pack show pack:0123456789ab"


def test_a_table_fits_its_terminal_and_cuts_the_widest_column() -> None:
    lines = list(table.aligned(["A", "B"], [["x", "y" * 100], ["wide " * 3, "z"]], 40))
    assert max(map(text.width, lines)) <= 40
    assert lines[1].endswith("…")
    assert list(table.aligned(["A"], [["日本"]], 80))[1] == "日本"
    assert text.width("日本e\u0301") == 5


@given(st.lists(st.lists(st.text(max_size=60), min_size=3, max_size=3), max_size=5), st.integers(20, 90))
def test_a_table_never_breaks_a_line(rows: list[list[str]], columns: int) -> None:
    cells = [[text.cell(item, terminal=True) for item in row] for row in rows]
    assert len(list(table.aligned(["A", "B", "C"], cells, columns))) == len(rows) + 1


@pytest.mark.parametrize(
    "words", ["soon", "2", "-1h", "2026-13-01T00:00:00Z", "2026-11-20T09:00:00", "99999999999h", "999999999w"]
)
def test_what_is_no_time_is_refused(words: str) -> None:
    with pytest.raises(UsageError):
        when.later(words, clock.now)


def test_times_and_ages() -> None:
    assert when.later("", clock.now) == ""
    assert when.earlier("2026-11-20", clock.now) == "2026-11-20T00:00:00.000000Z"
    assert when.later("2026-11-20T10:00:00+01:00", clock.now) == "2026-11-20T09:00:00.000000Z"
    assert when.earlier("1h", clock.now) < when.later("1h", clock.now)
    assert when.duration("10m", "x") == 600


def test_progress_says_rate_and_time_left_and_only_to_people() -> None:
    bar = progress.Progress("read", 40 << 20)
    assert bar.line(10 << 20, 5.0) == "10.0 MiB of 40.0 MiB read, 2.0 MiB/s, 15 s left"
    assert (
        progress.Progress("folded", 100, unit="records").line(50, 5.0)
        == "50 records of 100 records folded, 10/s, 5 s left"
    )
    assert progress.size(1023) == "1023 B"
    assert progress.duration(3700) == "1 h 1 min"


def test_progress_is_silent_off_a_terminal_and_plain_with_v(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST_S", 0.0)
    progress.Progress("read")(1)
    assert capsys.readouterr().err == ""
    progress.Progress("read", verbose=True)(2048)
    assert capsys.readouterr().err.startswith("2.0 KiB read, ")
    progress.Progress("read", verbose=True, quiet=True)(2048)
    assert capsys.readouterr().err == ""


def test_where_looks_into_members_and_lists() -> None:
    rows = [
        {"a": {"b": "x"}, "n": 1, "l": ["p", "q"], "t": True},
        {"a": {"b": "y"}, "n": 2, "l": [], "t": False},
    ]
    pick = lambda *where: [row["n"] for row in select.matching(rows, list(where))]  # noqa: E731
    assert pick("a.b=x") == [1]
    assert pick("l=q") == [1]
    assert pick("n=2") == [2]
    assert pick("t=true") == [1]
    assert pick("t=true", "n=2") == []


def test_7_wins_over_8_and_nothing_but_0_is_0() -> None:
    assert exits.worst([0, 8, 7]) == 7
    assert exits.worst([0, 8, 6]) == 8
    assert exits.worst([0, 0]) == 0
    assert exits.worst([]) == 0


def test_a_note_is_safe_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """It may name what somebody else wrote: a path, a message of a server."""
    output.note("missing \x1b[2J in a\nb\u202e")
    assert capsys.readouterr().err == "missing \\x1b[2J in a\\nb\\u202e\n"
