"""A single-ring spec at work in this process: one feeder, one thread a stage, and whoever supervises looks on.

Native stages (`identity count digest filter`) run in C without the interpreter lock; the others are `Work`s and run in Python.
The feeder ends the ring at the end of input, stages drain it and finish. A stage that fails stops the ring at that message:
nobody passes it, what was released before stays done; no more input is taken, and the rings of other shards are worked off.
A stage finishes its work only if the input was read to its end: what is cut short is abandoned, not made whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from muniment.domain.errors import MunimentError
from muniment.domain.ring_stops import PYTHON_FAILED
from muniment.ring import _ring
from muniment.ring.crew import Crew
from muniment.ring.files import faults
from muniment.ring.lines import line_too_long, unreadable
from muniment.ring.native import is_native, native_error, native_stage, native_summary, wait_word
from muniment.ring.route import Router
from muniment.ring.spec import Op, SingleRing, Spec
from muniment.ring.work import Span, Work

SLICE = 0.2  # seconds a thread waits before it looks whether it should end

Resolve = Callable[[Op, int, Router | None], Work]  # op, shard, router of a sharded ring


class Failure(NamedTuple):
    """What stopped a pipeline: the stage ("" the input), the sequence or line, and the error."""

    stage: str
    sequence: int
    error: BaseException


class Shard:
    """One ring with its stages.

    Args:
        works: a Work for each stage in Python, None for each native one.
        whole: was the input read to its end?
        halt: is told that the ring was stopped, and by which failure if that is known here.
    """

    def __init__(
        self,
        spec: SingleRing,
        ring: _ring.Ring,
        works: Sequence[Work | None],
        whole: Callable[[], bool],
        halt: Callable[[Failure | None], None],
    ) -> None:
        self.ring = ring
        self.producer = ring.producer()
        self._spec, self._works, self._whole, self._halt = spec, list(works), whole, halt
        self.native = [
            None if work else native_stage(stage.op) for stage, work in zip(spec.stages, works, strict=True)
        ]
        self._consumers = [ring.consumer(index) for index in range(len(spec.stages))]

    def crew(self, crew: Crew) -> None:
        """Its threads, one a stage."""
        for index, stage in enumerate(self._spec.stages):
            crew.add(f"stage {stage.id}", partial(self._stage, index))

    def _stage(self, index: int) -> None:
        work, stage = self._works[index], self._spec.stages[index]
        try:
            if work is None:
                self._run_native(index)
            else:
                self._run_python(index, work)
        except _ring.RingStopped:
            self._halt(None)
            if work is not None:
                work.abandon()
        except BaseException as error:
            at = self._consumers[index].at + 1
            self._halt(Failure(stage.id, at, error))
            self.ring.stop(index, PYTHON_FAILED, at)
            if work is not None:
                work.abandon()
        finally:
            self._consumers[index].close()

    def _run_native(self, index: int) -> None:
        consumer, native = self._consumers[index], self.native[index]
        assert native is not None
        while not consumer.run(native, SLICE):
            pass

    def _run_python(self, index: int, work: Work) -> None:
        consumer, most = self._consumers[index], work.batch
        while True:
            if self.ring.stopped is not None:  # it has a ring of messages in hand before it looks itself
                self._halt(None)
                work.abandon()
                return
            try:
                messages = consumer.peek_many(most, SLICE)
            except _ring.RingTimeout:
                continue
            except _ring.RingEnded:
                break
            span = Span(consumer.at + 1, consumer.held, consumer.held_bytes)
            try:
                kept = work.take(messages, span)
            except MunimentError as error:
                if span.taken < 2 or error.retryable:
                    raise
                consumer.release(0)
                most = span.taken // 2  # the one that fails stands alone in the end, all before it done
                continue
            if consumer.filter:
                consumer.mark([False] * len(messages) if kept is None else [not keep for keep in kept])
            consumer.release(span.taken)
        if self._whole():
            work.finish()
        else:
            work.abandon()

    def stopped_by(self, by_us: bool) -> Failure | None:
        """The native stage, or the other process, that stopped the ring; None if nobody did, or we without a reason."""
        stopped = self.ring.stopped
        if stopped is None or (by_us and stopped == (None, 0, 0)):
            return None
        stage, code, sequence = stopped
        name = self._spec.stages[stage].id if stage is not None and stage < len(self._spec.stages) else ""
        return Failure(name, sequence, native_error(code, name, sequence))

    def summary(self) -> list[dict[str, object]]:
        """What each stage did."""
        return [
            {
                "id": stage.id,
                "op": str(stage.op),
                **(native_summary(stage.op, native) if native else _summary(work)),
            }
            for stage, work, native in zip(self._spec.stages, self._works, self.native, strict=True)
        ]

    def close(self) -> None:
        """Let go of the mapping; its file stays."""
        for consumer in self._consumers:
            consumer.close()
        self.producer.close()
        self.ring.close()


class Pipeline:
    """A spec over an input.

    Args:
        paths: a ring file for each shard; they must not exist.
        resolve: makes the Work of an op in Python.
        wait: another wait strategy than the spec's (a tuning profile), "" its own.

    Raises:
        InvalidError, UnavailableError: an op cannot run; a ring cannot be made.
    """

    def __init__(
        self, spec: Spec, fd: int, offset: int, paths: Sequence[str], resolve: Resolve, *, wait: str = ""
    ) -> None:
        ring = spec.pipeline
        assert isinstance(ring, SingleRing)
        self._spec, self._lock = ring, threading.Lock()
        self.failure: Failure | None = None
        self.interrupted = self._stopped = self._whole = False
        self._quit, self.crew = threading.Event(), Crew()
        self._router = Router(fd, offset, ring) if ring.shards > 1 else None
        self.shards: list[Shard] = []
        self._fd = fd
        works: list[list[Work | None]] = [[] for _ in paths]
        try:
            for index, (path, mine) in enumerate(zip(paths, works, strict=True)):
                for stage in ring.stages:
                    mine.append(None if is_native(stage.op) else resolve(stage.op, index, self._router))
                made = make_ring(spec, ring, path, wait or ring.wait)
                self.shards.append(Shard(ring, made, mine, lambda: self._whole, self._halted))
        except BaseException:
            abandon(work for mine in works for work in mine)
            self.close()
            raise
        self._feeder = None if self._router else _ring.Feeder(self.shards[0].producer, offset=offset)
        self.crew.add("feeder", self._feed)
        for shard in self.shards:
            shard.crew(self.crew)

    def start(self) -> None:
        """Begin."""
        self.crew.start()

    def alive(self) -> bool:
        """True while a thread works."""
        return self.crew.alive()

    def finish_early(self) -> None:
        """Take no more input; what is in the ring is worked off."""
        self.interrupted = True
        self._quit.set()

    def stop(self) -> None:
        """Stop every stage where it is."""
        self._stopped = True
        self.finish_early()
        for shard in self.shards:
            shard.ring.stop(None, 0, 0)
        self.crew.release()

    @property
    def rings(self) -> list[tuple[str, _ring.Ring]]:
        """Each ring, named by the lane it is ("" here)."""
        return [("", shard.ring) for shard in self.shards]

    @property
    def read(self) -> tuple[int, int]:
        """Lines taken from the input, and the offset after them."""
        source = self._router or self._feeder
        assert source is not None
        return source.lines, source.offset

    @property
    def dropped(self) -> int:
        """Lines that a full dropping ring refused."""
        return sum(shard.producer.lost for shard in self.shards)

    def close(self) -> None:
        """Join the threads and let go of the rings."""
        self.crew.join()
        for shard in self.shards:
            shard.close()

    def result(self) -> Failure | None:
        """After the last thread ended: what stopped it, None if nothing did."""
        if self.failure is not None:
            return self.failure
        return next((found for shard in self.shards if (found := shard.stopped_by(self._stopped))), None)

    def summary(self) -> list[dict[str, object]]:
        """What each stage did; of a sharded ring, each stage of each shard."""
        if len(self.shards) == 1:
            return self.shards[0].summary()
        return [{**stage, "shard": at} for at, shard in enumerate(self.shards) for stage in shard.summary()]

    def _feed_once(self, producers: Sequence[_ring.Producer]) -> bool:
        if self._router is not None:
            return self._router.step(producers, SLICE)
        assert self._feeder is not None
        return self._feeder.feed(self._fd, SLICE)

    def _halted(self, failure: Failure | None) -> None:
        with self._lock:
            if self.failure is None:
                self.failure = failure
        self._quit.set()

    def _feed(self) -> None:
        try:
            while not self._quit.is_set() and not self._whole:
                self._whole = self._feed_once([shard.producer for shard in self.shards])
        except _ring.RingStopped:
            self._halted(None)  # whoever stopped it has said why; the other shards are worked off
        except _ring.BadLine as error:
            room = self._spec.slot_bytes
            self._halted(Failure("", error.line, line_too_long(error.line, error.offset, room)))
        except OSError as error:
            self._halted(Failure("", self.read[0] + 1, unreadable(error)))
        except BaseException as error:
            self._halted(Failure("", self.read[0] + 1, error))
        for shard in self.shards:
            shard.ring.end(shard.producer.at)


def abandon(works: Iterable[Work | None]) -> None:
    """Let go of works that will not begin."""
    for work in works:
        if work is not None:
            work.abandon()


def _summary(work: Work | None) -> dict[str, object]:
    assert work is not None
    return work.summary()


def is_filter(op: Op) -> bool:
    """May it reject a message?"""
    return op.name in ("filter", "python")


def make_ring(spec: Spec, ring: SingleRing, path: str | None, wait: str) -> _ring.Ring:
    """The ring of a spec, at a path that must not exist (None: anonymous). Raises UnavailableError: no room for it, no right."""
    from muniment.ring.spec_text import canonical, spec_sha256

    with faults("make the ring", path or "in memory", "ring"):
        return _ring.Ring.create(
            path,
            capacity=ring.capacity,
            slot_bytes=ring.slot_bytes,
            stages=[sum(1 << other for other in stage.depends_on) for stage in ring.stages],
            wait=wait_word(wait),
            multi=ring.producer == "multi",
            drop=ring.on_full == "drop",
            filters=sum(1 << index for index, stage in enumerate(ring.stages) if is_filter(stage.op)),
            meta=canonical(spec),
            spec_sha256=bytes.fromhex(spec_sha256(spec).removeprefix("sha256:")),
        )
