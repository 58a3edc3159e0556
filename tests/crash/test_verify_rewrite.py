"""A log that is written anew by somebody who has the code: what still finds it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attacks import attack, found, query, verify
from muniment.app.verify import Anchor
from muniment.domain import canonical
from muniment.store.merkle import Frontier


def _rewritten(root: Path, change: Callable[[int, dict[str, object]], None], last: int = 10**9) -> None:
    """Rewrite bodies, leaves, head and index as somebody would who has the code: the index is emptied, all is tail."""
    frontier = Frontier()
    statements: list[str | tuple[str, tuple[object, ...]]] = ["DELETE FROM postings", "DELETE FROM types"]
    stamp: object = ""
    for position, body in query(root, "SELECT position, body FROM records ORDER BY position"):
        if int(str(position)) > last:
            statements.append(("DELETE FROM records WHERE position = ?", (position,)))
            continue
        record = json.loads(bytes(body))  # type: ignore[arg-type]
        change(int(str(position)), record)
        data = canonical.encode(record)
        leaf = frontier.append(data)
        statements.append(
            ("UPDATE records SET body = ?, leaf = ? WHERE position = ?", (data, leaf, position))
        )
        stamp = record["recorded_at"]
    head = (frontier.size, frontier.to_bytes(), stamp)
    statements.append(("UPDATE head SET size = ?, frontier = ?, recorded_at = ?, indexed = 0", head))
    attack(root, *statements)


def _nothing(position: int, record: dict[str, object]) -> None:
    """Change nothing."""


def test_a_rewrite_that_changes_nothing_is_no_damage(store: Path) -> None:
    _rewritten(store, _nothing)
    assert verify(store).ok


def test_a_cut_tail_is_found_by_the_head_seen_last(store: Path) -> None:
    _rewritten(store, _nothing, last=96)
    report = verify(store)
    found(report, "head.last_seen")
    assert report.failed() == ["head.last_seen", "projections.memo"], "nothing inside the store can tell"
    assert report.provable_prefix == 96


def test_a_rewritten_suffix_is_found_by_the_head_seen_last(store: Path) -> None:
    def change(position: int, record: dict[str, object]) -> None:
        if position == 97:
            record["data"]["summary"] = "nothing happened"  # type: ignore[index]

    projecting_memo = next((store / "home" / "memos").rglob("*.memo"))
    projecting_memo.unlink()
    _rewritten(store, change)
    report = verify(store)
    found(report, "head.last_seen")
    assert report.failed() == ["head.last_seen"]
    assert report.provable_prefix == 0, "no earlier head is known that would hold"
    shutil.rmtree(store / "home" / "heads")
    assert verify(store).ok, "without a head from elsewhere nobody can tell"
    good = Anchor(103, "0" * 64, "checkpoint")
    found(verify(store, against=[good]), "head.against")


def test_a_rewritten_signed_record_is_found_without_any_head(store: Path) -> None:
    def change(position: int, record: dict[str, object]) -> None:
        if "signature" in record:
            record["data"]["reason"] = "another reason"  # type: ignore[index]

    shutil.rmtree(store / "home")
    _rewritten(store, change)
    report = verify(store)
    found(report, "record.signature")
    assert report["record.signature"].findings[0].position == 65


@pytest.mark.parametrize(
    ("field", "value", "check"),
    [
        ("type", "build.invented/1", "record.registry"),
        ("recorded_at", "2001-01-01T00:00:00.000000Z", "record.time"),
        ("batch", None, "record.batch"),
        ("extra", 1, "record.registry"),
        ("tags", ["scope:*"], "record.tags"),
    ],
)
def test_a_rewritten_field_is_found_without_any_head(
    store: Path, field: str, value: object, check: str
) -> None:
    def change(position: int, record: dict[str, object]) -> None:
        if position == 29:
            record[field] = value
            if value is None:
                del record[field]

    shutil.rmtree(store / "home")
    _rewritten(store, change)
    found(verify(store), check)


def test_bytes_that_are_not_canonical_are_found(store: Path) -> None:
    shutil.rmtree(store / "home")
    frontier, statements = Frontier(), []
    for position, body in query(store, "SELECT position, body FROM records ORDER BY position"):
        data = bytes(body)  # type: ignore[arg-type]
        data = data.replace(b'":', b'": ', 1) if position == 20 else data
        statements.append(
            (
                "UPDATE records SET body = ?, leaf = ? WHERE position = ?",
                (data, frontier.append(data), position),
            )
        )
    attack(store, *statements, ("UPDATE head SET frontier = ?", (frontier.to_bytes(),)))
    report = verify(store)
    found(report, "record.canonical")
    assert report.failed() == ["record.canonical"]
