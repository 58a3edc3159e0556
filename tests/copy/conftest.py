"""A store that was lived in, and places to copy it to."""

from __future__ import annotations

import copies
import pytest
from muniment.store import copy as machinery


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    base = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUNIMENT_HOME", str(base / "home"))
        return copies.build(base)


@pytest.fixture
def source(built, tmp_path, monkeypatch):
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(machinery, "BATCH", 16)
    return copies.clone(built, tmp_path / "source")


@pytest.fixture
def place(request, tmp_path):
    """Make a URL of a kind."""
    return lambda kind, name="target": copies.url_in(
        kind, tmp_path, request.getfixturevalue("pg_url") if kind == "postgres" else "", name
    )
