"""Stores on servers, by the proxy or without it, closed at the end of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from muniment.store.api import Log
from postgres_proxy import Proxy
from stores import Store, draft, schema


@pytest.fixture
def stores() -> Iterator[Callable[..., Store]]:
    """`stores(url)` is the store in the schema `log` of a database, or in another schema: `stores(url, name)`."""
    kept: list[Store] = []

    def make(url: str, name: str = "log") -> Store:
        kept.append(Store(schema(url, name)))
        return kept[-1]

    yield make
    for one in kept:
        one.close()


@pytest.fixture
def direct(pg_url: str, stores: Callable[..., Store]) -> Log:
    """The log, without a proxy."""
    return stores(pg_url).create()


@pytest.fixture
def admin(pg_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(pg_url, autocommit=True) as db:
        yield db


@pytest.fixture
def through(direct: Log, pg_proxy: Proxy, stores: Callable[..., Store]) -> Log:
    """A log through the proxy, with one record of its own, so that the next append is one statement."""
    log = stores(pg_proxy.url).open()
    log.append([draft("first")])
    return log
