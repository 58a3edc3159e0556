"""Pages of a query of several items: each as a filter of the whole log gives it, and no entry walked twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from muniment.domain.query import Item
from muniment.ops.bench import data
from muniment.store.index_search import Search
from muniment.store.open import create_log

SIZE = 3000
TYPES = sorted({data.record(n)["type"] for n in range(1, 60)})
SLOT = f"slot:{data.place(0)[0]}"
RARE = Item(("activation.planned/1",), ("pack:" + data.sha("pack0"),))
OFTEN = Item((), (SLOT,))
SELDOM = Item(("release.paused/1",), ("scope:*",))


class Counted:
    """Reads that count the rows of postings they hand out."""

    def __init__(self, reads: Any) -> None:
        self.reads, self.rows = reads, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.reads, name)
        if name not in ("forward", "onward"):
            return found

        def counted(*args: Any) -> Any:
            rows = found(*args)
            self.rows += len(rows)
            return rows

        return counted


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with create_log(tmp_path_factory.mktemp("index") / "log") as made:
        data.fill(made, SIZE)
        yield made


def whole(query: tuple[Item, ...], after: int, until: int) -> list[int]:
    records = ((n, data.record(n)) for n in range(after + 1, until + 1))
    return [n for n, r in records if any(i.matches(r["type"], set(r["tags"])) for i in query)]


def search(log: Any, query: tuple[Item, ...]) -> tuple[Search, Counted]:
    reads = Counted(log._reads)
    return Search(query, reads, log._tail_to(log.head().size)), reads


def paged(made: Search, after: int, until: int, size: int) -> Iterator[list[int]]:
    while page := made.positions(after, until, size, reverse=False):
        yield page
        assert after < page[-1]
        after = page[-1]


@pytest.mark.parametrize("size", [1, 2, 7, 100, 5000])
@pytest.mark.parametrize("seed", range(12))
def test_pages_of_any_query_are_those_of_a_filter(log: Any, seed: int, size: int) -> None:
    dice = random.Random(seed)
    tags = [tag for n in dice.sample(range(1, SIZE), 3) for tag in data.record(n)["tags"]]
    query = tuple(
        Item(tuple(dice.sample(TYPES, dice.randrange(4))), tuple(dice.sample(tags, dice.choice([1, 1, 2]))))
        for _ in range(dice.randrange(2, 6))
    )
    after, until = sorted(dice.sample(range(SIZE), 2))
    expected = whole(query, after, until)
    made, _ = search(log, query)
    assert expected == [at for page in paged(made, after, until, size) for at in page]
    back: list[int] = []
    while page := made.positions(after, back[-1] - 1 if back else until, size, reverse=True):
        back += page
    assert expected[::-1] == back


def test_one_search_may_be_asked_in_any_order(log: Any) -> None:
    query = (OFTEN, RARE, SELDOM)
    made, _ = search(log, query)
    dice = random.Random(3)
    for _ in range(60):
        after, until = sorted(dice.sample(range(SIZE), 2))
        size = dice.choice([1, 5, 50])
        assert whole(query, after, until)[:size] == made.positions(after, until, size, reverse=False)


def test_a_rare_arm_is_not_walked_again_for_each_page_of_another(tmp_path: Path) -> None:
    """Rows read grow with the history and the pages, not with their product."""
    often, seldom, tag = "slot.health_reported/1", "slot.good_attested/1", "slot:a/b/c"
    drafts = [
        data.draft({**data.record(n), "type": seldom if n % 900 == 7 else often, "tags": [tag]})
        for n in range(7, 3007)
    ]
    with create_log(tmp_path / "log") as log:
        data.fill(log, 6)
        log.append(drafts)
        made, reads = search(log, (Item((often,), (tag,)), Item((seldom,), (tag,))))
        pages = list(paged(made, 0, 3006, 30))
    assert 100 == len(pages)
    assert list(range(7, 3007)) == [at for page in pages for at in page]
    rows = -(-3000 // 112)
    assert reads.rows <= 4 * len(pages) + 2 * rows
