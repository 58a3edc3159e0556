"""The model is a package that tests import by name: `from ring_model.explore import explore`."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

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
