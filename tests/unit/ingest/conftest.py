"""A store, an input and runs of pipelines into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import shop as shops
from pipelines import Bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("MUNIMENT_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    shop = shops.Shop(tmp_path)
    shop.init()
    with shop.open() as session:
        yield Bench(tmp_path, session)
