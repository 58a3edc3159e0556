"""History: which records are there, filtered and paged; one record whole; the records as they come.

A page costs what is in it, not what is in the log: filters that are tags or types are answered from the index, times by a binary
search over positions. A cursor carries the point it was made at, so its pages stay those of one moment.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from muniment.app.reading import Reader, moment
from muniment.domain.decision import Fact
from muniment.domain.envelope import read_fact
from muniment.domain.errors import UsageError
from muniment.domain.instant import plus
from muniment.domain.query import Item, Query
from muniment.domain.reference import scope_tag
from muniment.projections.fold import KNOWN
from muniment.projections.words import line
from muniment.store.api import Log

LIMIT = 50
MAX_LIMIT = 10_000
NO_TYPE = "none/0"  # filters that exclude each other select this, and it is no type: no types would mean any
BY_REFERENCE = ("build", "channel", "incident", "intake", "pack", "release", "slot")
BY_TAG = ("agent", "approval", "host", "key", "policy", "product", "run", "source", "spec", "target")
FILTERS = (*BY_REFERENCE, *BY_TAG, "actor", "rule", "scope", "tag", "type")


def row(fact: Fact) -> dict[str, Any]:
    """One record as a row of a list."""
    return {
        "position": fact.position,
        "recorded_at": fact.recorded_at,
        "occurred_at": fact.occurred_at,
        "type": fact.type,
        "actor": fact.actor.id,
        "summary": line(fact),
        "reason": str(fact.data.get("reason") or ""),
        "id": fact.id,
        "tags": list(fact.tags),
    }


class Filter(msgspec.Struct):
    """A compiled `--where`: what the index answers, and what is looked at in each record."""

    query: Query
    actor: str = ""
    rule: str = ""

    def keeps(self, fact: Fact) -> bool:
        """Whether a selected record is wanted."""
        if self.actor and fact.actor.id != self.actor:
            return False
        if not self.rule:
            return True
        rule = str(fact.data.get("rule", ""))
        return rule == self.rule or rule.startswith(self.rule + ".")


def compiled(reader: Reader, where: Mapping[str, str]) -> Filter:
    """Compile filters; several narrow each other.

    Raises:
        UsageError: an unknown filter, type, or an ambiguous reference.
        NotFoundError: a reference to nothing.
    """
    tags, types = set(), None
    for field, value in where.items():
        if field not in FILTERS:
            raise UsageError(
                f"no filter {field[:40]!r}", code="history.where", expected=", ".join(FILTERS), found=field
            )
        if field in BY_REFERENCE:
            tags.add(reader.resolve(value, kinds=(field,)).tag)
        elif field in BY_TAG:
            tags.add(f"{field}:{value}")
        elif field == "tag":
            tags.add(value)
        elif field == "scope":
            tags.add(scope_tag(value))
        elif field == "type":
            types = _types(value)
    if "rule" in where:
        types = [t for t in (types or ["command.refused/1"]) if t == "command.refused/1"]
    every = tuple(sorted(types or (() if types is None else (NO_TYPE,))))
    query = (Item(every, tuple(sorted(tags))),) if every or tags else ()
    return Filter(query, where.get("actor", ""), where.get("rule", ""))


def _types(value: str) -> list[str]:
    """Types by full name, by name without version, or by the entity before the dot."""
    found = [t for t in KNOWN if value in (t, t.partition("/")[0], t.partition(".")[0])]
    if not found:
        raise UsageError(
            f"no record type {value[:60]!r}", code="history.type", hint="muniment schema list", found=value
        )
    return found


def listed(
    reader: Reader,
    *,
    where: Mapping[str, str] | None = None,
    since: str = "",
    until: str = "",
    limit: int = LIMIT,
    cursor: str = "",
    reverse: bool = False,
) -> dict[str, Any]:
    """A page of history (`history.list/1`), oldest first, or newest first with `reverse`.

    Args:
        since, until: instants on `recorded_at`, both included.
        cursor: `next` of the page before; filters and order must be the same.

    Raises:
        UsageError: see `compiled`; a limit out of range; a cursor of another question.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"limit {limit}", code="history.limit", expected=f"1..{MAX_LIMIT}")
    asked = _fingerprint(where or {}, since, until, reverse=reverse)
    as_of, edge = _opened(cursor, asked) if cursor else (reader.until, 0)
    if as_of > reader.size:
        raise UsageError("the cursor is of another log", code="history.cursor")
    chosen = compiled(reader, where or {})
    first = reader.before(plus(moment(since), micros=-1)) if since else 0
    last = min(as_of, reader.before(moment(until))) if until else as_of
    if edge:
        first, last = (first, min(last, edge - 1)) if reverse else (max(first, edge), last)
    rows: list[dict[str, Any]] = []
    more = ""
    if first < last:
        for position, body in reader.log.read(chosen.query, after=first, until=last, reverse=reverse):
            fact = read_fact(body, position)
            if not chosen.keeps(fact):
                continue
            if len(rows) == limit:
                more = _closed(as_of, rows[-1]["position"], asked)
                break
            rows.append(row(fact))
    return {"schema": "history.list/1", "as_of": as_of, "data": rows, "next": more or None, "omitted": 0}


def shown(reader: Reader, text: str) -> dict[str, Any]:
    """One record whole (`history.show/1`), by `#position`, id, unique prefix of an id, or the last one of an entity.

    Raises:
        UsageError, NotFoundError: see `Reader.resolve`.
    """
    ref = reader.resolve(text)
    position = ref.position if ref.kind == "record" else reader.last_of(ref)
    return {
        "schema": "history.show/1",
        "as_of": reader.until,
        "data": [record(reader, position)],
        "next": None,
        "omitted": 0,
    }


def record(reader: Reader, position: int) -> dict[str, Any]:
    """A record with its position, its line of words, its leaf hash, and every field it has."""
    body = reader.body(position)
    fact = read_fact(body, position)
    whole: dict[str, Any] = msgspec.json.decode(body)
    return {
        "position": position,
        "summary": line(fact),
        "bytes": len(body),
        "leaf": hashlib.sha256(b"\x00" + body).hexdigest(),
        "record": whole,
    }


def followed(
    log: Log, reader: Reader, *, where: Mapping[str, str] | None = None, after: int | None = None
) -> Follow:
    """Follow the history from now on, or from after a position: rows as they come, until stopped."""
    chosen = compiled(reader, where or {})
    return Follow(log, chosen, reader.size if after is None else after)


class Follow:
    """Rows of new records; blocks at the end. `stop()` from any thread ends it."""

    def __init__(self, log: Log, chosen: Filter, after: int) -> None:
        self._records = log.subscribe(chosen.query, after=after)
        self._chosen = chosen

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for position, body in self._records:
            fact = read_fact(body, position)
            if self._chosen.keeps(fact):
                yield row(fact)

    def stop(self) -> None:
        """End it."""
        self._records.stop()


def _fingerprint(where: Mapping[str, str], since: str, until: str, *, reverse: bool) -> str:
    text = json.dumps([sorted(where.items()), since, until, reverse])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _closed(as_of: int, position: int, asked: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([as_of, position, asked]).encode()).decode().rstrip("=")


def _opened(cursor: str, asked: str) -> tuple[int, int]:
    try:
        as_of, position, fingerprint = json.loads(
            base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        )
        sound = type(as_of) is int and type(position) is int and 0 < position <= as_of
    except (ValueError, TypeError, binascii.Error, RecursionError):
        sound, fingerprint = False, ""
    if not sound:
        raise UsageError("not a cursor of this command", code="history.cursor", hint="start without --cursor")
    if fingerprint != asked:
        raise UsageError(
            "the cursor belongs to another question",
            code="history.cursor",
            hint="keep filters and order, or start anew",
        )
    return as_of, position
