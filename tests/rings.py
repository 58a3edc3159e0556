"""Rings of numbered messages; `import rings` finds it."""

from __future__ import annotations

from muniment.ring import _ring


def record(n: int) -> bytes:
    return b"%016d" % n


def filled(ring: _ring.Ring, n: int = 8) -> tuple[_ring.Producer, _ring.Consumer]:
    producer, consumer = ring.producer(), ring.consumer(0)
    producer.publish_many([record(i) for i in range(n)])
    return producer, consumer
