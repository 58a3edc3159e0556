"""A single-ring spec at work in this process: one feeder, one thread a stage, and whoever supervises looks on.

Native stages (`identity count digest filter`) run in C without the interpreter lock; the others are `Work`s and run in Python.
The feeder ends the ring at the end of input, stages drain it and finish. A stage that fails stops the ring at that message:
nobody passes it, what was released before stays done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from muniment.domain.errors import InvalidError, MunimentError, UnavailableError
from muniment.ring import _ring
from muniment.ring.native import is_native, native_error, native_stage, native_summary, wait_word
from muniment.ring.route import Router
from muniment.ring.spec import Op, SingleRing, Spec
from muniment.ring.work import Span, Work

SLICE = 0.2  # seconds a thread waits before it looks whether it should end
PYTHON_FAILED = 64  # stop code of a stage in Python; those below 32 belong to native stages (stages.h)

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
    """

    def __init__(
        self,
        spec: SingleRing,
        ring: _ring.Ring,
        works: Sequence[Work | None],
        fail: Callable[[Failure], None],
    ) -> None:
        self.ring = ring
        self.producer = ring.producer()
        self._spec, self._works, self._fail = spec, list(works), fail
        self.native = [
            None if work else native_stage(stage.op) for stage, work in zip(spec.stages, works, strict=True)
        ]
        self._consumers = [ring.consumer(index) for index in range(len(spec.stages))]
        self.threads = [
            threading.Thread(target=self._stage, args=(index,), name=f"stage {stage.id}", daemon=True)
            for index, stage in enumerate(spec.stages)
        ]

    def _stage(self, index: int) -> None:
        work, stage = self._works[index], self._spec.stages[index]
        try:
            if work is None:
                self._run_native(index)
            else:
                self._run_python(index, work)
        except _ring.RingStopped:
            if work is not None:
                work.abandon()
        except BaseException as error:
            at = self._consumers[index].at + 1
            self._fail(Failure(stage.id, at, error))
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
                if len(messages) < 2 or error.retryable:
                    raise
                consumer.release(
                    0
                )  # nothing of the list is done: find the one that fails, do those before it
                most = 1
                continue
            if consumer.filter:
                consumer.mark([False] * len(messages) if kept is None else [not keep for keep in kept])
            consumer.release(span.taken)
        work.finish()

    def stopped_by(self) -> Failure | None:
        """The native stage, or the other process, that stopped the ring."""
        stopped = self.ring.stopped
        if stopped is None:
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
        self.interrupted = False
        self._quit = threading.Event()
        self._router = Router(fd, offset, ring.shard_key, ring.shards) if ring.shards > 1 else None
        self.shards: list[Shard] = []
        self._fd, self._offset = fd, offset
        try:
            for index, path in enumerate(paths):
                works = [
                    None if is_native(stage.op) else resolve(stage.op, index, self._router)
                    for stage in ring.stages
                ]
                self.shards.append(
                    Shard(ring, make_ring(spec, ring, path, wait or ring.wait), works, self._failed)
                )
        except BaseException:
            self.close()
            raise
        self._feeder = None if self._router else _ring.Feeder(self.shards[0].producer, offset=offset)
        self._feeding = threading.Thread(target=self._feed, name="feeder", daemon=True)

    def start(self) -> None:
        """Begin."""
        for shard in self.shards:
            for thread in shard.threads:
                thread.start()
        self._feeding.start()

    def alive(self) -> bool:
        """True while a thread works."""
        return self._feeding.is_alive() or any(
            thread.is_alive() for shard in self.shards for thread in shard.threads
        )

    def finish_early(self) -> None:
        """Take no more input; what is in the ring is worked off."""
        self.interrupted = True
        self._quit.set()

    def stop(self) -> None:
        """Stop every stage where it is."""
        self.finish_early()
        for shard in self.shards:
            shard.ring.stop(None, 0, 0)

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
        for shard in self.shards:
            for thread in shard.threads:
                if thread.ident is not None:
                    thread.join()
            shard.close()

    def result(self) -> Failure | None:
        """After the last thread ended: what stopped it, None if nothing did."""
        if self.failure is not None:
            return self.failure
        return next((found for shard in self.shards if (found := shard.stopped_by()) is not None), None)

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

    def _failed(self, failure: Failure) -> None:
        with self._lock:
            if self.failure is None:
                self.failure = failure
        self._quit.set()

    def _feed(self) -> None:
        producers = [shard.producer for shard in self.shards]
        try:
            while not self._quit.is_set():
                if self._feed_once(producers):
                    break
        except _ring.RingStopped:
            return
        except _ring.BadLine as error:
            self._failed(Failure("", error.line, _bad_line(error, self._spec)))
        except OSError as error:
            self._failed(Failure("", self.read[0], _unreadable(error)))
        except BaseException as error:
            self._failed(Failure("", self.read[0], error))
        for producer in producers:
            producer.end()


def _summary(work: Work | None) -> dict[str, object]:
    assert work is not None
    return work.summary()


def is_filter(op: Op) -> bool:
    """May it reject a message?"""
    return op.name in ("filter", "python")


def make_ring(spec: Spec, ring: SingleRing, path: str | None, wait: str) -> _ring.Ring:
    """The ring of a spec, at a path that must not exist (None: anonymous)."""
    from muniment.ring.spec_text import canonical, spec_sha256

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


def _bad_line(error: _ring.BadLine, ring: SingleRing) -> MunimentError:
    return InvalidError(
        f"line {error.line} of the input, at byte {error.offset}, does not fit a slot",
        code="source.line_too_long",
        expected=f"at most {ring.slot_bytes} bytes (single_ring.slot_bytes)",
        hint="raise single_ring.slot_bytes; everything before this line was passed on",
    )


def _unreadable(error: OSError) -> MunimentError:
    return UnavailableError(
        f"the input cannot be read: {error.strerror or error}",
        code="source.unreadable",
        hint="run again: it goes on",
    )
