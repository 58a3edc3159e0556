"""Lifetimes: nothing is given back, published or unmapped while somebody can still see it; no order of letting go crashes."""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from muniment.ring import _ring
from rings import filled, record


def test_slots_stay_while_a_memoryview_lives(ring: _ring.Ring) -> None:
    producer, consumer = filled(ring)
    view = consumer.view(8, 0)
    seen = memoryview(view)
    first = view[0]
    for export in (seen, first):
        with pytest.raises(BufferError, match="alive"):
            view.release()
        assert producer.publish_many([record(9)], 0) == 0, "no slot was given back"
        export.release()
    view.release()
    assert producer.publish_many([record(9)], 0) == 1


def test_a_slice_and_a_cast_keep_the_slots(ring: _ring.Ring) -> None:
    producer, consumer = filled(ring)
    view = consumer.view(8, 0)
    seen = memoryview(view)[16:32].cast("Q")
    gc.collect()
    with pytest.raises(BufferError, match="alive"):
        view.release()
    assert bytes(seen) == record(1)
    assert producer.publish_many([record(9)], 0) == 0
    del seen
    view.release()


def test_a_memoryview_outlives_every_name(ring: _ring.Ring) -> None:
    _, consumer = filled(ring)
    seen = memoryview(consumer.view(8, 0))
    del consumer, ring
    gc.collect()
    assert bytes(seen[:16]) == record(0)


def test_a_forgotten_view_gives_nothing_back(ring: _ring.Ring) -> None:
    _, consumer = filled(ring)
    consumer.view(8, 0)
    assert (consumer.at, consumer.held) == (0, 0)
    assert consumer.take(0) == record(0)


def look_and_fail(view: _ring.View, held: list[memoryview]) -> None:
    with view:
        held.append(view[3])
        raise ZeroDivisionError


def test_an_exception_gives_nothing_back_even_with_memoryviews_alive(ring: _ring.Ring) -> None:
    _, consumer = filled(ring)
    held: list[memoryview] = []
    view = consumer.view(8, 0)
    with pytest.raises(ZeroDivisionError):
        look_and_fail(view, held)
    assert bytes(held[0]) == record(3)
    with pytest.raises(BufferError, match="release or commit"):
        consumer.take(0)
    held.clear()
    del view
    assert consumer.take(0) == record(0)


def test_leaving_a_view_with_a_memoryview_alive_is_an_error(ring: _ring.Ring) -> None:
    _, consumer = filled(ring)
    with pytest.raises(BufferError, match="1 memoryviews of the view are alive"), consumer.view(8, 0) as view:
        message = view[0]
    assert bytes(message) == record(0)


def test_a_released_view_is_empty_and_exports_nothing(ring: _ring.Ring) -> None:
    _, consumer = filled(ring)
    view = consumer.view(8, 0)
    view.release()
    view.release()
    assert view.released
    assert len(view) == 0
    with pytest.raises(BufferError, match="released"):
        memoryview(view)
    with pytest.raises(IndexError):
        view[0]
    assert consumer.at == 7, "a view ends with the last slot: sequences 1 to 7 stand in slots 1 to 7"


def test_a_claim_is_not_published_while_it_can_be_written(ring: _ring.Ring) -> None:
    producer, consumer = filled(ring, 0)
    claim = producer.claim(2, 0)
    writing = memoryview(claim)
    with pytest.raises(BufferError, match="alive"):
        claim.commit()
    with pytest.raises(BufferError, match="alive"):
        claim.release()
    assert consumer.lag == 0
    writing[:16] = record(7)
    writing.release()
    assert claim.commit(1) == 1
    assert consumer.take(0) == record(7)
    with pytest.raises(BufferError, match="over"):
        claim.commit()
    with pytest.raises(BufferError, match="over"):
        memoryview(claim)


def test_a_forgotten_claim_publishes_nothing(ring: _ring.Ring) -> None:
    producer, consumer = filled(ring, 0)
    memoryview(producer.claim(4, 0))[:16] = record(1)
    with producer.claim(4, 0) as claim:
        assert claim.first == 1
    assert (consumer.lag, producer.at) == (0, 0)
    producer.publish(record(2))
    assert consumer.take(0) == record(2)


def test_what_is_out_refuses_everything_else(ring: _ring.Ring) -> None:
    producer, consumer = filled(ring, 4)
    view, claim = consumer.view(2, 0), producer.claim(1, 0)
    calls: list[Callable[[], object]] = [
        lambda: consumer.take(0),
        lambda: consumer.take_many(1, 0),
        lambda: consumer.peek_many(1, 0),
        lambda: consumer.view(1, 0),
        lambda: consumer.run(_ring.Count(), 0),
        consumer.release,
        consumer.leave,
        consumer.close,
        lambda: producer.publish(record(1)),
        lambda: producer.publish(bytearray(record(1))),
        lambda: producer.publish_many([record(1)], 0),
        lambda: producer.publish_buffer(record(1), 0),
        lambda: producer.claim(1, 0),
        lambda: _ring.Feeder(producer),
        producer.end,
        producer.close,
        ring.close,
    ]
    for call in calls:
        with pytest.raises(BufferError):
            call()
    assert (consumer.at, producer.at, ring.ended) == (0, 4, None)
    view.release()
    claim.release()


def test_what_is_closed_refuses_everything(ring: _ring.Ring) -> None:
    producer, consumer = filled(ring, 4)
    feeder = _ring.Feeder(producer)
    for one in (producer, consumer):
        one.close()
        one.close()
        assert one.closed
    ring.close()
    ring.close()
    assert ring.closed
    calls: list[Callable[[], object]] = [
        lambda: producer.publish(record(1)),
        lambda: producer.publish_many([]),
        lambda: producer.publish_buffer(b""),
        lambda: producer.claim(1),
        lambda: feeder.feed(0),
        producer.end,
        producer.beat,
        consumer.take,
        lambda: consumer.take_many(1),
        lambda: consumer.peek_many(1),
        lambda: consumer.view(1),
        lambda: consumer.mark([]),
        lambda: consumer.sequence(0),
        lambda: consumer.run(_ring.Count()),
        lambda: consumer.lag,
        lambda: consumer.held_bytes,
        consumer.release,
        consumer.leave,
        consumer.beat,
        ring.snapshot_raw,
        ring.producer,
        lambda: ring.consumer(0),
        lambda: ring.stop(None, 1, 1),
        lambda: ring.end(1),
        lambda: ring.meta,
        lambda: ring.stopped,
        lambda: ring.ended,
    ]
    for call in calls:
        with pytest.raises(BufferError, match="closed"):
            call()
    assert (ring.capacity, ring.stages, producer.at, consumer.at) == (8, [0], 4, 0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(5))))
def test_any_order_of_forgetting(order: tuple[int, ...]) -> None:
    ring = _ring.Ring.create(None, capacity=8, slot_bytes=16, stages=[0], fixed=True)
    producer, consumer = filled(ring, 4)
    names = [ring, producer, consumer, memoryview(consumer.view(2, 0)), memoryview(producer.claim(2, 0))]
    del ring, producer, consumer
    for index in order:
        names[index] = None  # type: ignore[call-overload]
        for export in names[3:]:
            if export is not None:
                assert len(bytes(export)) == 32
    gc.collect()


def test_nothing_leaks(tmp_path: Path) -> None:
    """Thousands of calls of everything that allocates: the interpreter holds no block more, the process no mapping more."""

    def once(n: int) -> None:
        ring = _ring.Ring.create(None, capacity=64, slot_bytes=16, stages=[0], fixed=True)
        with ring, ring.producer() as producer, ring.consumer(0) as consumer:
            batch = [record(i) for i in range(64)]
            for _ in range(n):
                producer.publish_many(batch)
                consumer.take()
                consumer.take_many(20)
                consumer.peek_many(20)
                consumer.release()
                for size in (10, 13):
                    with consumer.view(size, 0) as view:
                        memoryview(view).release()
                        view[0].release()
                producer.publish(batch[0])
                consumer.take()
                with producer.claim(3) as claim:
                    memoryview(claim).release()
                while consumer.lag:
                    consumer.take_many(64)
                ring.snapshot_raw()
                for bad in (
                    lambda: consumer.take(0),
                    lambda: producer.publish(b""),
                    lambda: consumer.take_many(0),
                ):
                    with pytest.raises((_ring.RingTimeout, ValueError)):
                        bad()
        radio = _ring.Ring.create(None, capacity=4, slot_bytes=16, stages=[0], kind="broadcast")
        with radio, radio.producer() as producer, radio.consumer(0) as consumer:
            for _ in range(n):
                producer.publish_many(batch[:4])
                consumer.take_many(3, 0)
                producer.publish_many(batch)
                with pytest.raises(_ring.RingOverrun):
                    consumer.take_many(64, 0)
                consumer.take_many(64, 0)
        path = tmp_path / "ring"
        for _ in range(n // 10):
            _ring.Ring.create(path, capacity=4, slot_bytes=16, stages=[0], meta=b"x" * 100).close()
            with pytest.raises(_ring.RingBusy):
                _ring.Ring.create(path, capacity=4, slot_bytes=16, stages=[0])
            _ring.Ring.attach(path).close()
            path.unlink()

    once(50)
    gc.collect()
    blocks, mappings = sys.getallocatedblocks(), len(Path("/proc/self/maps").read_text().splitlines())
    once(2000)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 200
    assert len(Path("/proc/self/maps").read_text().splitlines()) - mappings < 10
