"""Every verb that reads: exit 0, and JSON of the shape its schema says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

READS = [
    ["identity", "list"],
    ["key", "list"],
    ["policy", "show"],
    ["intake", "list"],
    ["intake", "show", "in-1"],
    ["build", "list"],
    ["build", "show", "b-2"],
    ["pack", "list"],
    ["pack", "show", "build:b-1"],
    ["channel", "list"],
    ["channel", "show"],
    ["channel", "show", "prod"],
    ["release", "list"],
    ["release", "show", "r-1"],
    ["incident", "list"],
    ["incident", "show", "i-1"],
    ["incident", "timeline", "i-1"],
    ["history", "list"],
    ["history", "show", "#3"],
    ["explain", "#3"],
    ["explain", "r-2"],
    ["explain", "prod/stable~1"],
    ["evidence-summary"],
    ["evidence-summary", "r-2", "--check"],
    ["tour"],
    ["tour", "r-1"],
    ["projection", "status"],
    ["projection", "rebuild"],
    ["projection", "digest"],
    ["verify", "store"],
    ["verify", "store", "--decisions"],
    ["schema", "list"],
    ["schema", "show", "channel.pinned"],
    ["schema", "show", "channel.show/1"],
    ["active", "--target", "edge"],
]


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_a_reading_verb_answers_in_its_schema(told: Path, cli: Callable[..., Any], words: list[str]) -> None:
    ran = cli(*words, "-o", "json")
    assert ran.code == 0, ran.err
    assert set(ran.json) == {"schema", "as_of", "data", "next", "omitted"}
    table = cli(*words)
    assert table.code == 0
    if words[0] not in ("identity", "key"):
        assert table.out


def test_reading_changes_nothing(told: Path, cli: Callable[..., Any]) -> None:
    before = cli("history", "list", "-o", "json").json["as_of"]
    for words in READS:
        cli(*words)
    assert cli("history", "list", "-o", "json").json["as_of"] == before


def test_jsonl_is_one_row_a_line(told: Path, cli: Callable[..., Any]) -> None:
    lines = cli("build", "list", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["build"] for line in lines] == ["b-1", "b-2", "b-3"]


def test_csv_has_a_header_and_every_member(told: Path, cli: Callable[..., Any]) -> None:
    header, *rows = cli("pack", "list", "-o", "csv").out.splitlines()
    assert header.startswith("pack,product,seq,state")
    assert "blocks" in header
    assert len(rows) == 2


def test_fields_choose_and_where_filters(told: Path, cli: Callable[..., Any]) -> None:
    assert cli("build", "list", "--where", "state=ELIGIBLE", "--fields", "build").out == "b-1\nb-3\n"
    assert cli("build", "list", "--where", "state=ELIGIBLE", "--where", "build=b-3", "-q").out == "b-3\n"
    assert cli("build", "list", "--where", "state=NONE").out == ""


def test_limit_and_cursor_page_through_everything(told: Path, cli: Callable[..., Any]) -> None:
    first = cli("build", "list", "--limit", "2", "-o", "json").json
    assert (first["next"], first["omitted"]) == ("b-2", 1)
    rest = cli("build", "list", "--limit", "2", "--cursor", first["next"], "-o", "json").json
    assert [row["build"] for row in rest["data"]] == ["b-3"]
    assert (rest["next"], rest["omitted"]) == (None, 0)


def test_history_pages_keep_their_moment(told: Path, cli: Callable[..., Any]) -> None:
    page = cli("history", "list", "--oldest", "--limit", "5", "-o", "json").json
    seen = [row["position"] for row in page["data"]]
    cli("channel", "freeze", "prod", "--expires", "2h")
    while page["next"]:
        page = cli("history", "list", "--oldest", "--limit", "5", "--cursor", page["next"], "-o", "json").json
        seen += [row["position"] for row in page["data"]]
    assert seen == list(range(1, page["as_of"] + 1))


def test_as_of_shows_what_was_known_then(told: Path, cli: Callable[..., Any]) -> None:
    pinned = next(
        row["position"]
        for row in cli("history", "list", "--where", "type=channel.pinned", "-o", "json").json["data"]
    )
    row = cli("channel", "show", "--as-of", f"#{pinned}", "-o", "json").json
    assert row["as_of"] == pinned
    assert row["data"][0]["pin"]["pack"] == row["data"][0]["targets"][0]["active"]
    assert cli("channel", "show", "-o", "json").json["data"][0]["pin"] is None
    assert cli("channel", "show", "--as-of", "2", "-o", "json").json["data"] == []


def test_follow_ends_after_its_limit(told: Path, cli: Callable[..., Any]) -> None:
    ran = cli("history", "follow", "--after", "2", "--limit", "3", "-o", "jsonl")
    assert [json.loads(line)["position"] for line in ran.out.splitlines()] == [3, 4, 5]


def test_a_timeline_begins_with_the_change_before_and_ends_with_the_incident(
    told: Path, cli: Callable[..., Any]
) -> None:
    rows = cli("incident", "timeline", "i-1", "-o", "json").json["data"]
    assert rows[0]["type"] == "activation.switched/1"
    assert rows[-1]["type"] == "incident.closed/1"
    assert "rollback.pack_selected/1" in {row["type"] for row in rows}


def test_the_tour_has_every_chapter_in_reading_order(told: Path, cli: Callable[..., Any]) -> None:
    said = cli("tour", "r-2", "-o", "json").json["data"]
    titles = [chapter["title"] for chapter in said["chapters"]]
    assert titles == [
        "intake",
        "build",
        "gates",
        "pack",
        "plan and approvals",
        "exposure",
        "activation",
        "health",
        "rollback",
        "incident",
        "verify",
    ]
    assert all(chapter["records"] or chapter["title"] == "verify" for chapter in said["chapters"])
    assert len(said["chapters"][1]["answers"]) == 5


def test_the_commands_of_the_tour_run(told: Path, cli: Callable[..., Any]) -> None:
    import shlex

    said = cli("tour", "r-2", "-o", "json").json["data"]
    for chapter in said["chapters"]:
        for command in chapter["look"]:
            words = shlex.split(command)
            assert words[0] == "muniment"
            if words[1] != "pack" and "--check" not in words:
                assert cli(*words[1:]).code == 0, command


def test_schema_check_takes_a_record_and_refuses_a_bent_one(
    told: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    record = cli("history", "show", "#3", "-o", "json").json["data"]["record"]
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record))
    assert cli("schema", "check", str(file)).code == 0
    record["data"]["files"] = "three"
    file.write_text(json.dumps(record))
    assert cli("schema", "check", str(file)).code == 10
    assert cli("schema", "check", "-", stdin=b"{").code == 10
    assert cli("schema", "check", "-", stdin=b"[]").code == 10
    assert cli("schema", "check", str(tmp_path / "absent")).code == 3
