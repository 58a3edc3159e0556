"""The model is a package that tests import by name: `from ring_model.explore import explore`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from muniment.ring import _ring

HERE = Path(__file__).parent
MODEL = HERE / "model"

if "ring_model" not in sys.modules:
    found = spec_from_file_location(
        "ring_model", MODEL / "__init__.py", submodule_search_locations=[str(MODEL)]
    )
    assert found is not None
    assert found.loader is not None
    sys.modules["ring_model"] = package = module_from_spec(found)
    found.loader.exec_module(package)

if "core_programs" not in sys.modules:
    found = spec_from_file_location("core_programs", HERE / "core_programs.py")
    assert found is not None
    assert found.loader is not None
    sys.modules["core_programs"] = programs = module_from_spec(found)
    found.loader.exec_module(programs)


@pytest.fixture(scope="session")
def core_programs(tmp_path_factory: pytest.TempPathFactory) -> object:
    """`core_programs.Programs` of this session."""
    return sys.modules["core_programs"].Programs(tmp_path_factory.mktemp("core"))


@pytest.fixture
def ring() -> Iterator[_ring.Ring]:
    """A small ring in memory with one stage; what is left of it is collected after the test."""
    from muniment.ring import _ring

    yield _ring.Ring.create(None, capacity=8, slot_bytes=16, stages=[0], fixed=True)
    gc.collect()
