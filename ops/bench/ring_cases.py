"""The Python cases, each in a process of its own: `python -m muniment.ops.bench.ring_cases CASE COUNT [WORD…]` prints its figure.

Messages are 64 bytes, 1024 different ones in turn. Drivers are `map` into a deque of no length, the cheapest loop there is; the
same for the peers. Two processes are bound to two cores; the clock runs from the first message to the other side's word that it
has the last.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import shared_memory
from typing import Any

from muniment.ops.bench.ring_programs import two_cores
from muniment.ring import _ring

SIZE = 64
SLOTS = 65_536
PLENTY = 4096  # messages a reader takes at most
MESSAGES = [
    (i * 2654435761 % (1 << 64)).to_bytes(8, "little") + bytes((i + j) & 255 for j in range(56))
    for i in range(1024)
]
Work = Callable[[], None]
CASES: dict[str, Callable[..., float]] = {}


def case(function: Callable[..., float]) -> Callable[..., float]:
    """Register a case under its name."""
    CASES[function.__name__] = function
    return function


def eat(items: Iterable[object]) -> None:
    """Run an iterator out."""
    deque(items, maxlen=0)


def stream(count: int) -> Iterator[bytes]:
    """So many messages."""
    return itertools.islice(itertools.cycle(MESSAGES), count)


def batch_of(size: int) -> list[bytes]:
    """A list of different messages."""
    return [MESSAGES[i % len(MESSAGES)] for i in range(size)]


def seconds(work: Work) -> float:
    """How long it took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Ring:
    """A fixed ring in anonymous memory, once gone round: no page is new when the clock runs."""

    def __init__(self, wait: str, stages: Sequence[int] = (0,), slots: int = SLOTS, size: int = SIZE) -> None:
        self.ring = _ring.Ring.create(
            None,
            capacity=slots,
            slot_bytes=size,
            stages=list(stages),
            fixed=True,
            wait=wait,  # type: ignore[arg-type]
        )
        with self.ring.producer() as producer:
            producer.publish_buffer(bytes(size * slots))
        for stage in range(len(stages)):
            with self.ring.consumer(stage) as consumer:
                left = slots
                while left:
                    left -= len(consumer.take_many(left))


def _rounds(count: int, put: Callable[[int], None], get: Callable[[int], None]) -> tuple[float, float]:
    """Nanoseconds a message of filling and of emptying, in rounds that never wait."""
    done, filling, emptying = 0, 0.0, 0.0
    while done < count:
        n = min(SLOTS, count - done)
        filling += seconds(lambda: put(n))  # noqa: B023  # called at once
        emptying += seconds(lambda: get(n))  # noqa: B023
        done += n
    return filling / count * 1e9, emptying / count * 1e9


@case
def call(count: int, what: str, batch: int = 1) -> float:
    """Nanoseconds a message, alone in one thread."""
    if what == "noop":
        return seconds(lambda: eat(map(_ring.noop, stream(count)))) / count * 1e9
    if what.startswith("queue"):
        one: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        put, get = _rounds(
            count,
            lambda n: eat(map(one.put, stream(n))),
            lambda n: eat(take() for take in itertools.repeat(one.get, n)),
        )
        return put if what == "queue_put" else get
    made = Ring("spin").ring
    producer, consumer = made.producer(), made.consumer(0)
    records, listed = b"".join(batch_of(batch)), batch_of(batch)
    writers: dict[str, Callable[[int], None]] = {
        "publish": lambda n: eat(map(producer.publish, stream(n))),
        "publish_many": lambda n: eat(map(producer.publish_many, itertools.repeat(listed, n // batch))),
        "publish_buffer": lambda n: eat(map(producer.publish_buffer, itertools.repeat(records, n // batch))),
    }

    def viewed(n: int) -> None:
        while n:
            with consumer.view(batch) as view:
                n -= len(view)

    def listing(n: int) -> None:
        while n:
            n -= len(consumer.take_many(batch))

    readers: dict[str, Callable[[int], None]] = {
        "take": lambda n: eat(take() for take in itertools.repeat(consumer.take, n)),
        "take_many": listing,
        "view": viewed,
    }
    count -= count % batch
    put, get = _rounds(count, writers.get(what, writers["publish"]), readers.get(what, listing))
    return put if what in writers else get


@case
def snapshot(count: int, form: str) -> float:
    """Nanoseconds of a snapshot of a ring with three stages at rest."""
    from muniment.ring.snapshot import render

    made = Ring("backoff", (0, 1, 2), 1024, 8).ring
    if form == "dict":
        return seconds(lambda: eat(render(made.snapshot_raw(), None, "") for _ in range(count))) / count * 1e9
    return seconds(lambda: eat(look() for look in itertools.repeat(made.snapshot_raw, count))) / count * 1e9


@case
def native(count: int, wait: str, batch: int = 1, stages: int = 1, records: str = "") -> float:
    """From Python to native stages one after the other, each on a thread without the interpreter lock."""
    made = Ring(wait, [(1 << k) >> 1 for k in range(stages)]).ring
    counted = [_ring.Count() for _ in range(stages)]
    consumers = [made.consumer(stage) for stage in range(stages)]
    threads = [threading.Thread(target=c.run, args=(s,)) for c, s in zip(consumers, counted, strict=True)]
    producer = made.producer()
    listed, joined = batch_of(batch), b"".join(batch_of(batch))
    times = count // batch
    for thread in threads:
        thread.start()

    def work() -> None:
        if batch == 1:
            eat(map(producer.publish, stream(count)))
        elif records:
            eat(map(producer.publish_buffer, itertools.repeat(joined, times)))
        else:
            eat(map(producer.publish_many, itertools.repeat(listed, times)))
        producer.end()
        for thread in threads:
            thread.join()

    taken = seconds(work)
    if any(stage.messages != times * batch for stage in counted):
        raise SystemExit("a stage did not see every message")
    return times * batch / taken / 1e6


@case
def simple_queues(count: int, stages: int = 1) -> float:
    """As many `queue.SimpleQueue` in a row, a thread behind each."""
    queues: list[queue.SimpleQueue[bytes]] = [queue.SimpleQueue() for _ in range(stages)]

    def stage(k: int) -> None:
        get = itertools.repeat(queues[k].get, count)
        if k + 1 < stages:
            eat(map(queues[k + 1].put, (take() for take in get)))
        else:
            eat(take() for take in get)

    threads = [threading.Thread(target=stage, args=(k,)) for k in range(stages)]
    for thread in threads:
        thread.start()

    def work() -> None:
        eat(map(queues[0].put, stream(count)))
        for thread in threads:
            thread.join()

    return count / seconds(work) / 1e6


def pin(side: int) -> None:
    """This process to the core of a side."""
    cpu = int(two_cores().split(",")[side])
    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})


def across(count: int, reader: Callable[[Work], None], writer: Work) -> float:
    """Millions a second; the reader runs in a forked process and calls what it is given when it is ready."""
    heard, told = os.pipe()

    def child() -> None:
        pin(1)
        reader(lambda: eat([os.write(told, b".")]))
        os.write(told, b".")

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    pin(0)
    os.read(heard, 1)

    def work() -> None:
        writer()
        os.read(heard, 1)

    taken = seconds(work)
    process.join()
    if process.exitcode:
        raise SystemExit("the reader failed")
    return count / taken / 1e6


@case
def ring_across(count: int, wait: str, batch: int = 1, how: str = "many") -> float:
    """A ring in shared memory; `how` the reader takes: one, many, view; the writer: publish, or a batch at once."""
    made = Ring(wait).ring
    count -= count % batch

    def reader(ready: Work) -> None:
        consumer = made.consumer(0)
        ready()
        left = count
        if how == "one":
            eat(take() for take in itertools.repeat(consumer.take, left))
            return
        while left:
            if how == "view":
                with consumer.view(PLENTY) as view:
                    left -= len(view)
            else:
                left -= len(consumer.take_many(PLENTY))

    def writer() -> None:
        with made.producer() as producer:
            if batch == 1:
                eat(map(producer.publish, stream(count)))
            elif how == "view":
                eat(map(producer.publish_buffer, itertools.repeat(b"".join(batch_of(batch)), count // batch)))
            else:
                eat(map(producer.publish_many, itertools.repeat(batch_of(batch), count // batch)))

    return across(count, reader, writer)


@case
def pipe_across(count: int, batch: int = 1) -> float:
    """os.pipe, raw bytes."""
    out, into = os.pipe()
    joined = b"".join(batch_of(batch))
    count -= count % batch

    def reader(ready: Work) -> None:
        os.close(into)
        ready()
        left = count * SIZE
        while left:
            left -= len(os.read(out, SIZE * batch))

    def writer() -> None:
        os.close(out)
        if batch == 1:
            eat(map(os.write, itertools.repeat(into, count), stream(count)))
            return
        for _ in range(count // batch):
            rest = memoryview(joined)
            while rest:
                rest = rest[os.write(into, rest) :]

    return across(count, reader, writer)


@case
def queue_across(count: int, batch: int = 1) -> float:
    """multiprocessing.Queue, a message or a list each time."""
    between: multiprocessing.Queue[Any] = multiprocessing.get_context("fork").Queue()
    count -= count % batch

    def reader(ready: Work) -> None:
        ready()
        for _ in range(count // batch):
            between.get()

    def writer() -> None:
        if batch == 1:
            eat(map(between.put, stream(count)))
        else:
            eat(map(between.put, itertools.repeat(batch_of(batch), count // batch)))

    return across(count, reader, writer)


@case
def memory_across(count: int, batch: int = 1) -> float:
    """A ring in pure Python over multiprocessing.shared_memory; the reader gets views of what is there."""
    shared = shared_memory.SharedMemory(create=True, size=4096 + SLOTS * SIZE)
    room = shared.buf
    assert room is not None
    room[:] = bytes(len(room))
    head = room[:4096].cast("Q")
    count -= count % batch

    def reader(ready: Work) -> None:
        ready()
        at = tail = 0
        while at < count:
            while tail == at:
                tail = head[0]
            first = at % SLOTS
            n = min(tail - at, PLENTY, SLOTS - first)
            view = room[4096 + first * SIZE : 4096 + (first + n) * SIZE]
            view.release()
            at += n
            head[64] = at

    def writer() -> None:
        at = gate = 0
        for message in (
            stream(count) if batch == 1 else itertools.repeat(b"".join(batch_of(batch)), count // batch)
        ):
            while at + batch - gate > SLOTS:
                gate = head[64]
            offset = 4096 + at % SLOTS * SIZE
            room[offset : offset + batch * SIZE] = message
            at += batch
            head[0] = at

    try:
        return across(count, reader, writer)
    finally:
        head.release()
        shared.close()
        shared.unlink()


@case
def trip(count: int, what: str, wait: str = "spin") -> float:
    """Microseconds there and back, the median: rings or multiprocessing.Pipe."""
    samples: list[float] = []
    message = MESSAGES[5]
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    rings = [Ring(wait, slots=1024).ring for _ in range(2)]

    def ends(side: int) -> tuple[Callable[[bytes], object], Callable[[], bytes]]:
        if what == "pipe":
            end = theirs if side else ours
            return end.send_bytes, end.recv_bytes
        return rings[side].producer().publish, rings[1 - side].consumer(0).take

    def reader(ready: Work) -> None:
        send, receive = ends(1)
        ready()
        for _ in range(count):
            send(receive())

    def writer() -> None:
        send, receive = ends(0)
        clock = time.perf_counter
        for _ in range(count):
            start = clock()
            send(message)
            receive()
            samples.append(clock() - start)

    across(count, reader, writer)
    return statistics.median(samples) * 1e6


def main(argv: Sequence[str]) -> None:
    """CASE COUNT [WORD…]: numbers are read as numbers."""
    name, count, *rest = argv
    figure = CASES[name](int(count), *(int(word) if word.isdigit() else word for word in rest))
    print(repr(figure), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
