"""`sink:log`: lines of a pipeline into the log, in batches, acknowledged after the commit.

1. A line is a JSON object shaped as a CloudEvent: `id` and `type` are asked for, `source`, `time` and `subject` may be there, all
   else is carried in the text. It becomes one `fact.imported`, kept as it came; the text of one that no record holds is evidence,
   stored before the record that names it (settled.md, 3).
2. A batch is one append: its facts, then `runtime.batch_acknowledged` with the stretch of the input they are. So the position to go
   on from is in the log or the facts are not; a killed run loses nothing and doubles nothing.
3. The record id follows from (source, id): a line that comes again is found by it. Equal: counted as a duplicate. Other content
   under a known id: refused, the pipeline stops there.
4. Two runs on one source: the append of the later one is refused by its condition, and it stops.
5. An empty line holds no event and is skipped; anything else that is no event stops the pipeline at that line.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from muniment.app.fact_drafts import MEDIA_TYPE, FactDrafts, fact_id
from muniment.app.ingest_schema import Event
from muniment.app.patience import Patience
from muniment.app.session import Options, Session
from muniment.domain.decision import Fact
from muniment.domain.envelope import read_fact
from muniment.domain.errors import ConflictError, InvalidError
from muniment.domain.instant import from_micros
from muniment.domain.payloads_runtime import MAX_BODY
from muniment.domain.query import Item
from muniment.ring.floor import Floor
from muniment.ring.work import BATCH, Span
from muniment.store.api import AppendConflict, Condition, Draft

ACKNOWLEDGED = "runtime.batch_acknowledged/1"
EVENT_ROLE = "event"
GAP = 64  # positions read in vain rather than asked for anew


def position_item(source: str, spec: str) -> Item:
    """Every acknowledgement of a source by a spec."""
    return Item((ACKNOWLEDGED,), (f"source:{source}", f"spec:{spec}"))


class _Batch(NamedTuple):
    """Messages with an event, as facts by record id; `repeated`: lines that say what another line of the batch says."""

    messages: Sequence[bytes]
    span: Span
    facts: dict[str, Draft]
    repeated: int


class Mark(NamedTuple):
    """A place in an input and the line that ends there: a resumed run sees by it that the input is the same.

    Attributes:
        line_sha256: "" if the line is not known. line_bytes: without its line end.
    """

    offset: int
    line_sha256: str = ""
    line_bytes: int = 0


class Ledger:
    """How far a spec has acknowledged a source; one for all sinks of a run.

    Args:
        at: of the input where the run begins.
        after: size of the log when it was looked up: no other acknowledgement of the source may have come since.
        floor: where lines do not follow each other (shards, lane graphs); None: they do.
    """

    def __init__(self, source: str, spec: str, at: Mark, after: int, floor: Floor | None = None) -> None:
        self.source, self.spec, self.at, self.floor = source, spec, at, floor
        self.lock = threading.Lock()
        self.after, self._query = after, (position_item(source, spec),)

    @property
    def condition(self) -> Condition:
        """Nobody else has acknowledged the source."""
        return Condition(self._query, self.after)

    def end(self, shard: int, messages: Sequence[bytes], span: Span) -> Mark:
        """What is acknowledged once these messages of a shard are committed."""
        if self.floor is None:
            offset = self.at.offset + span.bytes + span.taken
            # a filter may have dropped the last
            last = messages[-1] if messages and len(messages) == span.taken else None
        else:
            offset, last = self.floor.floor(shard, span.taken)
        if offset == self.at.offset:
            return self.at
        return Mark(offset) if last is None else Mark(offset, _digest(last), len(last))

    def advance(self, shard: int, span: Span, at: Mark, after: int) -> None:
        """They are."""
        self.at, self.after = at, after
        if self.floor is not None:
            self.floor.done(shard, span.taken)


class LogSink:
    """The stage of one shard.

    Args:
        ledger: None where something is dropped on the way here: what is missing was not committed, so nothing is acknowledged.
    """

    batch = BATCH

    def __init__(
        self,
        session: Session,
        drafts: FactDrafts,
        *,
        run: str,
        source: str,
        ledger: Ledger | None,
        patience: Patience,
        shard: int = 0,
    ) -> None:
        self._session, self._drafts, self._ledger, self._patience = session, drafts, ledger, patience
        self._run, self._source, self._shard = run, source, shard
        self._request = session.request(Options())
        self._decoder = msgspec.json.Decoder(Event)
        self._expect_known = False
        self.committed = self.duplicates = self.skipped = 0

    def take(self, messages: Sequence[bytes], span: Span) -> None:
        """Commit a batch; durable when this returns.

        Raises:
            InvalidError: a line is no event. ConflictError: an id with other content, or another run on this source.
            UnavailableError: the store could not be written, see `patience`.
        """
        facts: dict[str, Draft] = {}
        self._session.keep_secret(b"\n".join(messages).decode(errors="replace"))
        at = from_micros(self._session.log.now())
        empty = 0
        for sequence, line in enumerate(messages, span.first):
            if not line.strip():
                empty += 1
                continue
            draft = self._draft(line, at, sequence)
            other = facts.setdefault(draft.id or "", draft)
            if other is not draft and other.head != draft.head:
                raise _reused(line, "another line of the same batch")
        batch = _Batch(messages, span, facts, len(messages) - empty - len(facts))
        known = self._commit(batch)
        self._expect_known = known > 0
        self.committed += len(facts) - known
        self.duplicates += batch.repeated + known
        self.skipped += span.taken - len(messages) + empty

    def _commit(self, batch: _Batch) -> int:
        """Append with patience; return how many of the facts were there. Other shards wait: the store is down for them too."""
        with self._ledger.lock if self._ledger else nullcontext():
            return self._patience.until_done(lambda: self._append(batch, self._ledger))

    def _append(self, batch: _Batch, ledger: Ledger | None) -> int:
        """Append what is not there, and where that leads in the input."""
        known = self._known(batch.facts) if self._expect_known else set()
        end = ledger.end(self._shard, batch.messages, batch.span) if ledger else Mark(0)
        while True:
            drafts = [draft for id_, draft in batch.facts.items() if id_ not in known]
            if ledger:
                drafts.append(self._acknowledgement(ledger, batch, end, len(known)))
            condition = ledger.condition if ledger else None
            try:
                size = self._session.append(drafts, condition).last if drafts else 0
            except AppendConflict:
                if ledger and (last := self._ours(ledger)):
                    ledger.advance(self._shard, batch.span, end, last.position)
                    return len(batch.facts) - int(last.data["facts"])
                found = self._known(batch.facts)
                if found == known:  # so it is the condition
                    raise self._overtaken() from None
                known = found
                continue
            if ledger:
                ledger.advance(self._shard, batch.span, end, size)
            return len(known)

    def settle(self) -> None:
        """Acknowledge what came through without a batch after it, once nobody is at work any more.

        Raises:
            ConflictError: another run on this source. UnavailableError: the store cannot be written.
        """
        nothing = _Batch((), Span(0, 0, 0), {}, 0)
        ledger = self._ledger
        if ledger is None or ledger.end(self._shard, (), nothing.span) == ledger.at:
            return
        self._patience.check()
        self._append(nothing, ledger)

    def _ours(self, ledger: Ledger) -> Fact | None:
        """The acknowledgement of this very batch: committed by a try whose answer was lost with the connection."""
        last = self._session.last(position_item(ledger.source, ledger.spec))
        if last is None or last.position <= ledger.after:
            return None
        return last if (last.data["run"], last.data["shard"]) == (self._run, self._shard) else None

    def _draft(self, line: bytes, at: str, sequence: int) -> Draft:
        try:
            event = self._decoder.decode(line)
            body = line.decode()
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise InvalidError(
                f"message {sequence} is no event: {error}",
                code="ingest.no_event",
                expected='a JSON object with "id" and "type" (CloudEvents)',
                found=line[:120].decode(errors="replace"),
                hint="mend the line or filter it out, then run again: everything before it is committed",
            ) from error
        source = event.source or self._source
        make = partial(
            self._drafts.draft,
            source=source,
            event_id=event.id,
            event_type=event.type,
            at=at,
            subject=event.subject,
            time=event.time,
            id_=fact_id(source, event.id),
        )
        if len(body) <= MAX_BODY:
            try:
                return make(body=body)
            except InvalidError as error:
                if error.code != "record.size":
                    raise
        kept = self._patience.until_done(lambda: self._session.evidence.put(line))
        return make(body="", body_sha256=_digest(line), evidence=[kept.as_evidence(EVENT_ROLE, MEDIA_TYPE)])

    def _known(self, facts: dict[str, Draft]) -> set[str]:
        """Ids that the log holds with the same payload.

        Raises:
            ConflictError: one has another payload.
        """
        log = self._session.log
        ids = {place: id_ for id_, place in log.positions_of(list(facts)).items()}
        for first, last in _stretches(sorted(ids)):
            for at, body in log.read(after=first - 1, until=last):
                id_ = ids.get(at, "")
                if id_ and not _equal(read_fact(body, at).data, _data(facts[id_])):
                    raise _reused(_text(_data(facts[id_])).encode(), f"record #{at}")
        return set(ids.values())

    def _acknowledgement(self, ledger: Ledger, batch: _Batch, end: Mark, known: int) -> Draft:
        span = batch.span
        duplicates, facts = known + batch.repeated, len(batch.facts) - known
        data = {
            "run": self._run,
            "spec": ledger.spec,
            "source": ledger.source,
            "shard": self._shard,
            "from_offset": str(ledger.at.offset),
            "to_offset": str(end.offset),
            "lines": span.taken,
            "facts": facts,
            "duplicates": duplicates,
            "filtered": span.taken - facts - duplicates,
            "last_line_sha256": end.line_sha256,
            "last_line_bytes": end.line_bytes,
        }
        return self._session.handler.fact(ACKNOWLEDGED, data, self._request)

    def _overtaken(self) -> ConflictError:
        return ConflictError(
            f"another run has acknowledged input of source {self._source} since this one began",
            code="ingest.source_taken",
            source=self._source,
            hint="let one run read a source at a time; run again to go on behind it, or name another with --source",
        )

    def finish(self) -> None:
        """Every batch was durable when it was taken."""

    def abandon(self) -> None:
        """The same: what is not acknowledged comes again."""

    def summary(self) -> dict[str, object]:
        """Facts committed, lines that were there already, empty or filtered lines, where to go on."""
        return {
            "messages": self.committed + self.duplicates,
            "committed": self.committed,
            "duplicates": self.duplicates,
            "skipped": self.skipped,
            "offset": "" if self._ledger is None else str(self._ledger.at.offset),
        }


def _stretches(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Positions as stretches with small gaps: what comes again stands together, and one read of it costs less than many."""
    first = last = 0
    for place in places:
        if last and place - last > GAP:
            yield first, last
            first = place
        first, last = first or place, place
    if last:
        yield first, last


def _data(draft: Draft) -> dict[str, object]:
    body = draft.leaf("2000-01-01T00:00:00.000000Z")
    return read_fact(body, 0).data


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """The same event, also if one holds its text and the other names it: how long a record gets depends on who imports."""
    return one == other or _named(one) == _named(other)


def _named(data: Mapping[str, Any]) -> dict[str, Any]:
    digest = data["body_sha256"] or _digest(data["body"].encode())
    return {**data, "body": "", "body_sha256": digest}


def _text(data: Mapping[str, Any]) -> str:
    return str(data["body"] or data["body_sha256"])


def _digest(line: bytes) -> str:
    return "sha256:" + sha256(line).hexdigest()


def _reused(line: bytes, where: str) -> ConflictError:
    return ConflictError(
        f"the id of an event stands for other content: {where}",
        code="ingest.id_reused",
        found=line[:120].decode(errors="replace"),
        hint="events with one source and id must be equal; nothing of this batch was committed",
    )
