"""`ops/FAULTS.md` names tests that exist, leaves out no test that makes faults, and calls a gap what is one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "ops" / "FAULTS.md"
ALL_NAMED = (
    "crash/**/test_*.py",
    "contract/test_traps.py",
    "postgres/test_apart.py",
    "postgres/test_fa[iu]*.py",
)
RESULTS = {"holds", "gap", "open"}
_test = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


class Row(NamedTuple):
    """One line of a table."""

    fault: str
    expected: str
    test: str
    result: str


def rows(text: str) -> list[Row]:
    found = []
    for line in text.splitlines():
        if not line.startswith("|") or line.startswith(("| fault |", "|---")):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        assert len(cells) == 4, line
        found.append(Row(*cells))
    return found


@cache
def in_file(path: Path) -> dict[str, bool]:
    """Names of the tests in a file, and whether each is marked as an expected failure."""
    if not path.is_file():
        return {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name: any("xfail" in ast.unparse(mark) for mark in node.decorator_list)
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def problems(text: str) -> list[str]:
    """What is wrong with a document."""
    found, named = [], set()
    for row in rows(text):
        match = _test.fullmatch(row.test)
        if not row.fault or not row.expected or row.result not in RESULTS:
            found.append(f"incomplete: {row}")
        if row.result == "open":
            if row.test != "–":
                found.append(f"open, and has a test: {row.fault}")
            continue
        if match is None:
            found.append(f"no test id: {row.fault}: {row.test}")
            continue
        named.add((match[1], match[2]))
        tests = in_file(ROOT / match[1])
        if match[2] not in tests:
            found.append(f"no such test: {row.test}")
        elif tests[match[2]] != (row.result == "gap"):
            found.append(f"marked {row.result}, the test says otherwise: {row.test}")
    for path in sorted(path for pattern in ALL_NAMED for path in (ROOT / "tests").glob(pattern)):
        file = str(path.relative_to(ROOT))
        found += [f"left out: {file}::{name}" for name in in_file(path) if (file, name) not in named]
    return found


def test_every_test_exists_and_none_that_makes_faults_is_left_out() -> None:
    assert [] == problems(DOCUMENT.read_text(encoding="utf-8"))


def test_there_is_something_to_check() -> None:
    found = rows(DOCUMENT.read_text(encoding="utf-8"))
    assert len(found) > 100
    assert {row.result for row in found} <= RESULTS


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("::test_a_changed_cell_is_found`", "::test_a_changed_cell_is_lost`", "no such test"),
        ("tests/crash/test_append_kill.py::", "tests/crash/test_append_gone.py::", "no such test"),
        ("`tests/crash/test_append_kill.py::test_no_acknowledged_record_is_lost`", "by hand", "no test id"),
        (
            "test_the_checkpoint_that_init_named_is_there` | holds",
            "test_the_checkpoint_that_init_named_is_there` | gap",
            "the test says otherwise",
        ),
        (
            "`tests/crash/test_verify_damage.py::test_a_forged_memo_is_found` | holds",
            "– | open",
            "left out",
        ),
        (
            "`tests/postgres/test_failover.py::test_an_old_primary_acknowledges_nothing` | holds",
            "– | open",
            "left out",
        ),
        ("| found, with its position |", "|  |", "incomplete"),
        ("test_a_forged_memo_is_found` | holds", "test_a_forged_memo_is_found` | fine", "incomplete"),
        ("test_a_forged_memo_is_found` | holds", "test_a_forged_memo_is_found` | open", "has a test"),
    ],
)
def test_a_wrong_row_is_found(old: str, new: str, said: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert old in text
    assert any(said in problem for problem in problems(text.replace(old, new, 1)))
