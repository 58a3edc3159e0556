"""The shim, compiled once, and the folder of the helpers on the path: tests are no package."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import power_run  # noqa: E402  # found by the line above


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory(dir=power_run.memory(tmp_path)) as folder:
        monkeypatch.setenv("MUNIMENT_HOME", folder)
        yield


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return power_run.build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def record(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[power_run.Record]:
    """Record a workload; the same one again is not run again."""
    known: dict[tuple[object, ...], power_run.Recorded] = {}
    traces = tmp_path_factory.mktemp("power")
    with tempfile.TemporaryDirectory(dir=power_run.memory(traces)) as base:

        def make(scenario: str, seed: int = 1, mutant: str = "", pages: int = 60) -> power_run.Recorded:
            key = (scenario, seed, mutant, pages)
            if key not in known:
                name = "-".join(map(str, key))
                trace = traces / f"{name}.trace"  # kept by pytest for a while, to look at a failure
                known[key] = power_run.record(
                    shim, Path(base) / name, scenario, trace, seed=seed, mutant=mutant, pages=pages
                )
            return known[key]

        yield make
