"""A store and a PostgreSQL for every folder of tests, and the modules of `tests/`, which `import shop` finds: tests are no package.

A module runs when it is first used, so that who needs none of them pays for none.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import LazyLoader, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from muniment.app.session import Session
    from postgres_proxy import Proxy
    from postgres_server import Given, Place
    from shop import Shop

HERE = Path(__file__).parent


def offer(path: Path) -> None:
    """Put a module under its own name where `import` looks first; it runs when it is used."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = LazyLoader(spec.loader)
    sys.modules[path.stem] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


os.umask(0o022)  # modes of files that are asserted are those of the usual one

for one in sorted(HERE.glob("*.py")):
    if one.stem != "conftest":
        offer(one)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long runs are left out unless they are asked for: `-m soak`, or the id of one."""
    if "soak" in config.option.markexpr or any("soak" in word for word in config.invocation_params.args):
        return
    out = [item for item in items if item.get_closest_marker("soak")]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A store under policy solo, driven through the services; `MUNIMENT_HOME` lies beside it."""
    import shop

    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    made = shop.Shop(tmp_path)
    made.init()
    return made


@pytest.fixture
def ready(here: Shop) -> Iterator[tuple[Shop, Session, str]]:
    """A pack is promoted to the slot and nothing is active yet; yields the shop, a session, the pack."""
    with here.open() as s:
        pack = here.pack(s)
        here.declared(s, "prod/stable", "eu", "us")
        here.promoted(s, "r-1", pack)
        yield here, s, pack


@pytest.fixture
def begun(here: Shop) -> Iterator[tuple[Shop, Session]]:
    """A build `b-1` is started and no stage is run yet; yields the shop and a session."""
    with here.open() as s:
        here.started(s)
        yield here, s


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Make this a program that also knows version 2 of a kind of store: `next_version("sqlite", text)`, below `tmp_path`."""
    from muniment.store import migrations

    folder = tmp_path / "sql"

    def write(kind: str, text: str) -> None:
        if not folder.exists():
            shutil.copytree(migrations.FOLDER, folder)
        (folder / f"{kind}_0002.sql").write_text(text)
        monkeypatch.setattr(migrations, "FOLDER", folder)

    return write


@pytest.fixture(scope="session")
def postgres_place() -> Iterator[Place]:
    """Servers of one's own: `with postgres_place.server() as server`, `with postgres_place.standby_of(server) as standby`."""
    import postgres_server

    place = postgres_server.Place()
    yield place
    place.close()


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Given]:
    """The server of this test process: that of `MUNIMENT_TEST_POSTGRES`, else one of our own. Tests share it: none stops it."""
    import postgres_server

    if url := os.environ.get(postgres_server.GIVEN):
        yield postgres_server.Given(url)
        return
    place: Place = request.getfixturevalue("postgres_place")
    with place.server() as server:
        yield server


@pytest.fixture
def pg_url(postgres: Given) -> Iterator[str]:
    """URL of a fresh, empty database, dropped afterwards."""
    with postgres.database() as name:
        yield postgres.url(name)


@pytest.fixture
def pg_proxy(pg_url: str) -> Iterator[Proxy]:
    """A proxy to that database, to cut, delay and hold statements; clients take `pg_proxy.url`."""
    import postgres_proxy

    with postgres_proxy.Proxy(pg_url) as proxy:
        yield proxy
