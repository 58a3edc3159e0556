"""Explanations, decisions made again, and evidence summaries."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import story
from muniment.app import explain, redecide
from muniment.app.evidence_summary import summarized
from muniment.app.reading import Reader
from muniment.domain import slot_state
from muniment.domain.errors import NotFoundError
from muniment.store.api import Draft
from muniment.store.evidence_folder import EvidenceFolder
from muniment.store.memory import MemoryLog
from muniment.store.open import open_log


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryLog, Any, Path]:
    root = tmp_path_factory.mktemp("explain")
    clock = story.Clock()
    log = MemoryLog("records", clock=clock)
    teller = story.Story(log, clock, EvidenceFolder(root / "evidence", root / "staging"))
    teller.whole()
    return log, teller, root


@pytest.fixture
def reader(told: tuple[MemoryLog, Any, Path]) -> Reader:
    log, teller, root = told
    return Reader(log, now=teller.clock.now, base=root / "home")


def why(reader: Reader, text: str) -> dict[str, Any]:
    page = explain.explained(reader, text)
    assert page["schema"] == "explain/1"
    assert json.loads(json.dumps(page)) == page
    (data,) = page["data"]
    return dict(data)


def test_a_refusal_names_rule_cause_and_next(reader: Reader) -> None:
    found = why(reader, "#67")
    assert found["answer"] == "refused"
    assert found["rule"]["id"] == "R9.pinned"
    assert found["cause"]["position"] == 65
    assert found["cause"]["reason"] == "hold for audit"
    assert found["next"].startswith("muniment channel unpin")
    assert found["policy"]["policy"] == "solo"
    assert found["policy"]["equal"]
    assert found["redecided"] == {"verdict": "equal", "divergences": []}


def test_a_rollback_shows_its_candidates_and_facts(reader: Reader) -> None:
    found = why(reader, "#84")
    assert [candidate["code"] for candidate in found["candidates"]][-1] == "chosen"
    assert "R5" in found["rule"]["id"]
    assert [event["position"] for event in found["events"]] == [82, 83, 84]
    facts = {fact["position"] for fact in found["facts"]}
    assert {79, 40} <= facts
    assert 81 not in facts, "R5 looks at no report of health"
    assert max(facts) <= 81


def test_an_entity_is_explained_by_its_state_and_last_record(reader: Reader) -> None:
    found = why(reader, "prod/stable/eu")
    assert found["state"]["targets"][0]["mode"] == "STEADY"
    assert found["record"]["position"] == 97
    assert why(reader, "b-1")["state"]["state"] == "ELIGIBLE"
    assert why(reader, "in-1")["state"]["files"] == 1


def test_the_first_record_has_no_facts_and_no_policy(reader: Reader) -> None:
    found = why(reader, "#1")
    assert (found["facts"], found["policy"]) == ([], None)
    assert found["redecided"]["verdict"] == "equal"


def test_nothing_is_explained_of_what_is_not_there(reader: Reader) -> None:
    with pytest.raises(NotFoundError):
        explain.explained(reader, "r-9")


# -- decisions made again ----------------------------------------------------------------------------------------------


def test_every_decision_of_the_story_comes_out_as_recorded(told: tuple[MemoryLog, Any, Path]) -> None:
    log, _, _ = told
    assert list(redecide.every(log)) == []
    assert {redecide.redecide(log, p).verdict for p in range(1, log.head().size + 1)} == {"equal"}


def altered(log: MemoryLog, position: int, change: Any) -> MemoryLog:
    """The same log with one record changed."""
    made = MemoryLog("records", clock=story.Clock())
    for at, body in log.read():
        record = json.loads(body)
        if at == position:
            change(record)
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        start = text.index(b'"recorded_at":"') + 15
        made.append(
            [Draft(record["id"], record["type"], tuple(record["tags"]), text[:start], text[start + 27 :])]
        )
    return made


@pytest.mark.parametrize(
    ("position", "path", "value", "field"),
    [
        (67, ("data", "rule"), "R9.other", "#67 data"),
        (67, ("type",), "clock.jump_accepted/1", "types"),
        (65, ("data", "pack"), "sha256:" + "0" * 64, "#65 data"),
        (65, ("command", "args", "pack"), "sha256:" + "0" * 64, "basis.query"),
        (65, ("command", "name"), "channel.invented", "decision"),
        (65, ("command", "args"), {}, "decision"),
        (65, ("command",), None, "command"),
        (65, ("basis", "policy"), "sha256:" + "0" * 64, "basis.policy"),
        (65, ("basis", "query"), [], "basis.query"),
        (65, ("basis", "after"), 10, "basis.query"),
        (65, ("occurred_at",), "not a time", "decision"),
        (8, ("evidence",), [], "#8 evidence"),
        (83, ("data", "trace"), [], "#83 data"),
    ],
)
def test_what_was_not_decided_so_is_named(
    told: tuple[MemoryLog, Any, Path], position: int, path: tuple[str, ...], value: Any, field: str
) -> None:
    def change(record: dict[str, Any]) -> None:
        for key in path[:-1]:
            record = record[key]
        if value is None:
            del record[path[-1]]
        else:
            record[path[-1]] = value

    answer = redecide.redecide(altered(told[0], position, change), position)
    assert answer.verdict == "different"
    fields = [one.field for one in answer.divergences]
    assert field in fields or (field == "basis.query" and fields), fields
    assert all(one.expected != one.found for one in answer.divergences)


def test_a_fact_that_was_not_there_changes_the_answer(told: tuple[MemoryLog, Any, Path]) -> None:
    """Without the pin the refusal of r-2 does not come out again."""

    def change(record: dict[str, Any]) -> None:
        record["type"] = "channel.unpinned/1"
        del record["data"]["expires_at"], record["data"]["owner"]

    log = altered(told[0], 65, change)
    found = [one for one in redecide.every(log) if one[0] == 67]
    assert found
    assert "types" in {one[1] for one in found}


def rollback_query(log: MemoryLog) -> list[dict[str, Any]]:
    (body,) = [body for at, body in log.read() if at == 82]
    return list(json.loads(body)["basis"]["query"])


def queried(log: MemoryLog, query: list[dict[str, Any]]) -> list[str]:
    def change(record: dict[str, Any]) -> None:
        record["basis"]["query"] = query

    return [one.field for one in redecide.redecide(altered(log, 82, change), 82).divergences]


def test_a_decision_of_the_first_version_selected_every_report(told: tuple[MemoryLog, Any, Path]) -> None:
    """To the letter: each slot's item with the reports, in its order, and nothing more or less (decision 0015)."""
    query = rollback_query(told[0])
    slots = [item for item in query if item["tags"][0].startswith("slot:")]
    assert slots
    assert not any(slot_state.HEALTH in item["types"] for item in query)
    wide = [
        {**item, "types": sorted([*item["types"], slot_state.HEALTH])} if item in slots else item
        for item in query
    ]
    assert queried(told[0], wide) == []
    assert queried(told[0], [item for item in wide if item not in wide[-1:]]) == ["basis.query"]
    assert queried(told[0], [*wide, {"tags": ["scope:dev"], "types": ["channel.frozen/1"]}]) == [
        "basis.query"
    ]
    assert queried(told[0], wide[::-1]) == ["basis.query"]


def test_a_store_of_the_first_version_comes_out_as_recorded(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "stores" / "sqlite-1.tar.gz"
    with tarfile.open(golden) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # from 3.11.4 on
        tar.extractall(tmp_path)
    with open_log(tmp_path, read_only=True) as log:
        wide = [json.loads(body).get("basis", {}).get("query", []) for _, body in log.read()]
        assert any(slot_state.HEALTH in item["types"] for query in wide for item in query)
        assert list(redecide.every(log)) == []


# -- evidence summary --------------------------------------------------------------------------------------------------


def test_summary_of_the_store_and_of_a_subject(reader: Reader, told: tuple[MemoryLog, Any, Path]) -> None:
    evidence = told[1].evidence
    whole = summarized(reader, evidence, check=True)
    assert (whole["verdict"], whole["exit_code"]) == ("checked", 0)
    # nine files that records name, two more that a manifest lists; a file that is named twice is one file
    assert whole["counts"]["promised"] == 11
    assert whole["counts"]["distinct"] == whole["counts"]["present"]
    build = summarized(reader, evidence, "b-1")
    assert build["verdict"] == "present"
    assert build["roles"] == {"intake-manifest": 1, "pack-manifest": 1, "stage-log": 2}
    assert summarized(reader, evidence, "#8")["counts"]["promised"] == 1


@pytest.mark.parametrize("text", ["#1", "prod/stable"])
def test_nothing_promised_is_no_pass(reader: Reader, told: tuple[MemoryLog, Any, Path], text: str) -> None:
    found = summarized(reader, told[1].evidence, text, check=True)
    assert (found["verdict"], found["exit_code"]) == ("nothing promised", 7)


def test_gap_and_damage_exit_seven(reader: Reader, tmp_path: Path) -> None:
    root = tmp_path
    clock = story.Clock()
    log = MemoryLog("records", clock=clock)
    evidence = EvidenceFolder(root / "evidence", root / "staging")
    story.Story(log, clock, evidence).whole()
    reader = Reader(log, now=clock.now, base=root / "home")
    rows = summarized(reader, evidence)["data"]
    one, two = evidence.path(rows[0]["blake3"]), evidence.path(rows[1]["blake3"])
    data = two.read_bytes()
    two.chmod(0o600)
    two.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert summarized(reader, evidence)["verdict"] == "present", "damage of equal size shows by --check only"
    checked = summarized(reader, evidence, check=True)
    assert (checked["verdict"], checked["exit_code"]) == ("damaged", 7)
    two.write_bytes(b"")
    assert summarized(reader, evidence)["verdict"] == "damaged"
    one.unlink()
    gap = summarized(reader, evidence)
    assert (gap["verdict"], gap["exit_code"]) == ("gap", 7)
    assert [row["position"] for row in gap["data"] if row["state"] == "gap"] == [rows[0]["position"]]
