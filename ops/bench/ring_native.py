"""The ring in C against queues in C++ and the LMAX Disruptor: messages a second, one to one, chain, diamond, two producers.

Every message is written and read whole, and what was read is summed and compared. One to one is pinned to two cores, ours and the
peers; graphs and several producers are left to the scheduler. The Disruptor's rows have the shape of its own tests, warm.
"""

from __future__ import annotations

from collections.abc import Callable

from muniment.ops.bench.harness import Goal, Options, Table
from muniment.ops.bench.ring_programs import Cases, Workshop, two_cores, versions, workshop

WAITS = {"spin": 0, "paced": 1, "backoff": 2, "park": 3}
MILLION = 1_000_000
ONE_SLOTS, GRAPH_SLOTS = 65_536, 8_192
LMAX_OWN = "LMAX Disruptor, publish 1, yielding (its own test)"
LMAX_SPIN_64 = "LMAX Disruptor, batches of 64, spinning"
LMAX_YIELD_64 = "LMAX Disruptor, batches of 64, yielding"
LIMIT = "limit: lines of 64 bytes handed over in bulk"
PACED_1, PACED_64 = "muniment, publish 1, paced", "muniment, batches of 64, paced"
BOOST_64 = "boost spsc_queue, 64 a push, consume_all"
MOON = "moonshot:"


def run(options: Options) -> list[Table]:
    """A table for each payload one to one, each graph and payload, and two producers."""
    with workshop(options) as shop:
        tables = [_narrow(shop, options), _wide(shop, options)]
        tables += [
            _graph(shop, options, shape, payload) for payload in (8, 64) for shape in ("chain", "diamond")
        ]
        tables.append(_two_producers(shop, options))
    tables[0].notes.append(versions())
    return tables


class _Maker:
    """Adds cases of one table."""

    def __init__(self, shop: Workshop, options: Options, **common: object) -> None:
        self.cases = Cases()
        self._shop, self._options, self._common = shop, options, common
        self._pinned = common.get("shape", "one") == "one" and common.get("producers", 1) == 1
        self._cpus = {"cpus": two_cores()} if self._pinned else {}

    def count(self, millions: float) -> int:
        """Messages of a reading."""
        return self._options.work(round(millions * MILLION), 5_000)

    def ours(self, name: str, millions: float, *, separate: bool = False, **given: object) -> None:
        """The ring."""

        def make() -> Callable[[], float]:
            program = self._shop.ours("throughput", separate=separate)
            asked = {**self._common, **self._cpus, **given, "count": self.count(millions)}
            return lambda: program(**asked)["rate"] / MILLION

        self.cases.add(name, make)

    def lmax(self, name: str, millions: float, **given: object) -> None:
        """The Disruptor."""

        def make() -> Callable[[], float]:
            take = self._shop.lmax(self.count(millions), pinned=self._pinned, **self._common, **given)
            return lambda: take() / MILLION

        self.cases.add(name, make)

    def peer(self, name: str, millions: float, queue: str, batch: int = 1) -> None:
        """A queue in C++."""

        def make() -> Callable[[], float]:
            program = self._shop.peer(queue)
            asked = {
                "payload": self._common["payload"],
                "producers": self._common.get("producers", 1),
                "batch": batch,
                "count": self.count(millions),
                **self._cpus,
            }
            return lambda: program(**asked)["rate"] / MILLION

        self.cases.add(name, make)

    def queues(self, millions: float) -> None:
        """The queues in C++ that have one producer and one consumer."""
        self.peer("boost spsc_queue, push and pop", millions, "boost")
        self.peer("boost spsc_queue, push, consume_all", millions, "boost-all")
        self.peer(BOOST_64, 4 * millions, "boost-all", 64)
        self.peer("moodycamel readerwriterqueue", millions / 2, "readerwriterqueue")
        self.peer("atomic_queue, one to one", millions, "atomic_queue")

    def table(self, title: str, base: str, goals: list[Goal], notes: list[str]) -> Table:
        """Take them."""
        return self.cases.table(title, self._options, base=base, unit="M/s", goals=goals, notes=notes)


def _narrow(shop: Workshop, options: Options) -> Table:
    maker = _Maker(shop, options, payload=8, capacity=ONE_SLOTS)
    for name, wait in WAITS.items():
        maker.ours(f"muniment, publish 1, {name}", 40, wait=wait)
    maker.ours("muniment, publish 1, paced, core compiled apart", 40, wait=WAITS["paced"], separate=True)
    for name, wait in WAITS.items():
        maker.ours(f"muniment, batches of 64, {name}", 200, wait=wait, batch=64)
    maker.lmax(LMAX_OWN, 40, wait="yield")
    maker.lmax("LMAX Disruptor, publish 1, spinning", 40, wait="spin")
    maker.lmax("LMAX Disruptor, batches of 10, yielding (its own test)", 100, wait="yield", batch=10)
    maker.lmax(LMAX_YIELD_64, 100, wait="yield", batch=64)
    maker.lmax(LMAX_SPIN_64, 100, wait="spin", batch=64)
    maker.queues(40)
    goals = [
        Goal(PACED_1, LMAX_OWN, 1),
        Goal(PACED_1, LMAX_OWN, 1.5, word=MOON),
        Goal(PACED_64, BOOST_64, 1, word=MOON),
    ]
    notes = [
        "A paced stage that is nearly level with the producer waits once, at most 0.4 us, for a fuller batch."
    ]
    return maker.table("one to one, 8 bytes, 65 536 slots", LMAX_OWN, goals, notes)


def _wide(shop: Workshop, options: Options) -> Table:
    maker = _Maker(shop, options, payload=64, capacity=ONE_SLOTS)
    for name in ("spin", "paced", "park"):
        maker.ours(f"muniment, publish 1, {name}", 30, wait=WAITS[name])
    for name, wait in WAITS.items():
        maker.ours(f"muniment, batches of 64, {name}", 60, wait=wait, batch=64)
    maker.lmax(LMAX_OWN, 40, wait="yield")
    maker.lmax(LMAX_YIELD_64, 60, wait="yield", batch=64)
    maker.lmax(LMAX_SPIN_64, 60, wait="spin", batch=64)
    maker.queues(20)

    def limit() -> Callable[[], float]:
        program = shop.ours("limits", native=True)
        size, cpus = options.work(1 << 32, 1 << 20), two_cores()
        block = ONE_SLOTS * 64 // 4  # four are in flight: the room that the ring has
        return lambda: program(count=10, bytes=size, block=block, cpus=cpus)["lines"] / MILLION

    maker.cases.add(LIMIT, limit)
    goals = [
        Goal(PACED_64, LMAX_SPIN_64, 1.6),
        Goal(PACED_64, LMAX_YIELD_64, 1.6),
        Goal(PACED_64, LIMIT, 0.9, word=MOON),
    ]
    notes = [
        "We do not promise more than 1.2 x boost here: both move one line a message, and the limit is the transfer."
    ]
    return maker.table("one to one, 64 bytes, 65 536 slots", LIMIT, goals, notes)


def _graph(shop: Workshop, options: Options, shape: str, payload: int) -> Table:
    maker = _Maker(shop, options, shape=shape, payload=payload, capacity=GRAPH_SLOTS)
    for name in ("paced", "backoff", "park"):
        maker.ours(f"muniment, publish 1, {name}", 20, wait=WAITS[name])
        maker.ours(f"muniment, batches of 64, {name}", 60, wait=WAITS[name], batch=64)
    maker.lmax(LMAX_OWN, 10, wait="yield")
    maker.lmax(LMAX_YIELD_64, 15, wait="yield", batch=64)
    goals = []
    if payload == 8:
        goals = [
            Goal(PACED_64, LMAX_YIELD_64, 4),
            Goal(PACED_64, LMAX_YIELD_64, 5, word=MOON),
            Goal(PACED_1, LMAX_OWN, 3, word=MOON),
        ]
    drawn = (
        "producer, then three stages one after the other"
        if shape == "chain"
        else "two stages, then one behind both"
    )
    notes = [f"{shape}: {drawn}; unpinned."]
    return maker.table(f"{shape} of three, {payload} bytes, 8 192 slots", LMAX_YIELD_64, goals, notes)


def _two_producers(shop: Workshop, options: Options) -> Table:
    maker = _Maker(shop, options, payload=8, capacity=ONE_SLOTS, producers=2)
    for name in ("paced", "park"):
        maker.ours(f"muniment, publish 1, {name}", 10, wait=WAITS[name])
        maker.ours(f"muniment, batches of 64, {name}", 60, wait=WAITS[name], batch=64)
    maker.lmax("LMAX Disruptor, publish 1, yielding", 10, wait="yield")
    maker.lmax(LMAX_YIELD_64, 20, wait="yield", batch=64)
    maker.peer("atomic_queue, several producers", 10, "atomic_queue")
    notes = ["Unpinned."]
    return maker.table(
        "two producers to one, 8 bytes, 65 536 slots", "LMAX Disruptor, publish 1, yielding", [], notes
    )
