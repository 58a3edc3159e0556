"""The Python face against a plain Python model of it: every call of a random program answers as the model says.

One thread, so nothing ever waits: a call that would wait is made with timeout 0 and must say so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from muniment.ring import _ring

SIZE = 12  # slot_bytes of the rings of any length: no multiple of 8, the stride is longer


@dataclass
class Model:
    """A gated ring as a list: `log[i]` is message i + 1."""

    capacity: int
    deps: list[int]
    drop: bool
    filters: int
    log: list[bytes] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    rejected: list[set[int]] = field(default_factory=list)
    lost: int = 0
    ended: bool = False

    def above(self, stage: int) -> set[int]:
        """Every stage upstream."""
        found: set[int] = set()
        for other in range(stage):
            if self.deps[stage] >> other & 1:
                found |= {other} | self.above(other)
        return found

    def finals(self) -> list[int]:
        return [i for i in range(len(self.deps)) if not any(d >> i & 1 for d in self.deps)]

    def space(self) -> int:
        return self.capacity - (len(self.log) - min(self.at[i] for i in self.finals()))

    def limit(self, stage: int) -> int:
        upstream = [self.at[j] for j in range(stage) if self.deps[stage] >> j & 1]
        return min(upstream) if upstream else len(self.log)

    def hidden(self, stage: int, sequence: int) -> bool:
        return any(sequence in self.rejected[j] for j in self.above(stage) if self.filters >> j & 1)

    def shown(self, stage: int, first: int, last: int) -> list[bytes]:
        return [self.log[s - 1] for s in range(first, last + 1) if not self.hidden(stage, s)]


class Gated(RuleBasedStateMachine):
    """Publish, take, peek, view, mark, claim, close and open again, in any order."""

    shapes: ClassVar = {
        "one": [0],
        "two": [0, 0],
        "chain": [0, 1, 2],
        "diamond": [0, 0, 3],
        "tail": [0, 1, 1, 6],
    }
    multi: ClassVar = False
    fixed: ClassVar = False
    drop: ClassVar = False
    filters: ClassVar = 0

    @initialize(
        shape=st.sampled_from(sorted(shapes)),
        capacity=st.sampled_from([1, 2, 4, 16]),
        wait=st.sampled_from(["spin", "park"]),
    )
    def start(self, shape: str, capacity: int, wait: str) -> None:
        deps = self.shapes[shape]
        filters = self.filters & ((1 << len(deps)) - 1)
        self.size = 16 if self.fixed else SIZE
        self.ring = _ring.Ring.create(
            None,
            capacity=capacity,
            slot_bytes=self.size,
            stages=deps,
            wait=wait,  # type: ignore[arg-type]
            multi=self.multi,
            fixed=self.fixed,
            drop=self.drop,
            filters=filters,
        )
        self.model = Model(
            capacity, deps, self.drop, filters, at=[0] * len(deps), rejected=[set() for _ in deps]
        )
        self.producers = [self.ring.producer() for _ in range(2 if self.multi else 1)]
        self.consumers = [self.ring.consumer(i) for i in range(len(deps))]
        self.count = 0

    def message(self, length: int) -> bytes:
        self.count += 1
        return (b"%016d" % self.count) if self.fixed else (b"%d." % self.count * 3)[: length % (SIZE + 1)]

    def accept(self, messages: list[bytes], answer: int) -> None:
        """The ring takes what fits; the others are refused (drop) or were not published in time."""
        fit = min(len(messages), self.model.space())
        assert answer == fit
        self.model.log += messages[:fit]
        if self.drop:
            self.model.lost += len(messages) - fit

    @precondition(lambda self: not self.model.ended)
    @rule(lengths=st.lists(st.integers(0, SIZE), max_size=20), which=st.integers(0, 1))
    def publish_many(self, lengths: list[int], which: int) -> None:
        messages = [self.message(length) for length in lengths]
        producer = self.producers[which % len(self.producers)]
        self.accept(messages, producer.publish_many(messages, timeout=0))

    @precondition(lambda self: not self.model.ended and (self.drop or self.model.space()))
    @rule(length=st.integers(0, SIZE), form=st.sampled_from([bytes, bytearray, memoryview]))
    def publish(self, length: int, form: type) -> None:
        message = self.message(length)
        self.accept([message], self.producers[0].publish(form(message)))

    @precondition(lambda self: self.fixed and not self.model.ended)
    @rule(n=st.integers(0, 20))
    def publish_buffer(self, n: int) -> None:
        messages = [self.message(0) for _ in range(n)]
        self.accept(messages, self.producers[0].publish_buffer(b"".join(messages), timeout=0))

    @precondition(lambda self: self.fixed and not self.multi and not self.model.ended)
    @rule(n=st.integers(1, 20), keep=st.integers(0, 20))
    def claim(self, n: int, keep: int) -> None:
        room = min(
            n, self.model.space(), self.model.capacity - ((len(self.model.log) + 1) % self.model.capacity)
        )
        if not room:
            with pytest.raises(_ring.RingFull if self.drop else _ring.RingTimeout):
                self.producers[0].claim(n, timeout=0)
            return
        with self.producers[0].claim(n, timeout=0) as claim:
            assert (len(claim), claim.first) == (room, len(self.model.log) + 1)
            messages = [self.message(0) for _ in range(room)]
            with memoryview(claim) as view:
                view[:] = b"".join(messages)
            with pytest.raises(BufferError):
                self.producers[0].publish(messages[0])
            claim.commit(min(keep, room))
        self.model.log += messages[: min(keep, room)]

    def pick(self, stage: int) -> tuple[int, _ring.Consumer]:
        stage %= len(self.consumers)
        return stage, self.consumers[stage]

    def nothing(self, stage: int) -> type[Exception] | None:
        """The answer if there is no message."""
        if self.model.limit(stage) > self.model.at[stage]:
            return None
        return (
            _ring.RingEnded
            if self.model.ended and self.model.at[stage] == len(self.model.log)
            else _ring.RingTimeout
        )

    def release(self, stage: int, upto: int, flags: list[bool] | None = None) -> None:
        """The model gives back; a filter's answers stand for what was shown."""
        model = self.model
        answers = iter(flags or [])
        for sequence in range(model.at[stage] + 1, upto + 1):
            if not model.hidden(stage, sequence) and next(answers, False):
                model.rejected[stage].add(sequence)
        model.at[stage] = upto

    @rule(stage=st.integers(0, 3))
    def take(self, stage: int) -> None:
        stage, consumer = self.pick(stage)
        model = self.model
        last = model.limit(stage)
        visible = [s for s in range(model.at[stage] + 1, last + 1) if not model.hidden(stage, s)]
        if not visible:
            self.release(stage, last)
            with pytest.raises(self.nothing(stage) or AssertionError):
                consumer.take(timeout=0)
            return
        assert consumer.take(timeout=0) == model.log[visible[0] - 1]
        self.release(stage, visible[0])

    @rule(stage=st.integers(0, 3), most=st.integers(1, 20))
    def take_many(self, stage: int, most: int) -> None:
        stage, consumer = self.pick(stage)
        if error := self.nothing(stage):
            with pytest.raises(error):
                consumer.take_many(most, timeout=0)
            return
        # What the consumer knows may be older than what there is: it takes a part of it, never nothing, never more.
        first = self.model.at[stage] + 1
        found = consumer.take_many(most, timeout=0)
        last = consumer.at
        assert first <= last <= min(first + most - 1, self.model.limit(stage))
        assert found == self.model.shown(stage, first, last)
        self.release(stage, last)

    @rule(stage=st.integers(0, 3), most=st.integers(1, 20), give=st.integers(0, 20), salt=st.integers(0, 7))
    def peek(self, stage: int, most: int, give: int, salt: int) -> None:
        stage, consumer = self.pick(stage)
        if error := self.nothing(stage):
            with pytest.raises(error):
                consumer.peek_many(most, timeout=0)
            return
        model, first = self.model, self.model.at[stage] + 1
        found = consumer.peek_many(most, timeout=0)
        last = first + consumer.held - 1
        assert consumer.at == first - 1
        assert found == model.shown(stage, first, last)
        assert consumer.held_bytes == sum(map(len, model.log[first - 1 : last]))
        visible = [s for s in range(first, last + 1) if not model.hidden(stage, s)]
        assert [consumer.sequence(i) for i in range(len(visible))] == visible
        flags = [(s ^ salt) % 3 == 0 for s in visible]
        if consumer.filter and salt != 7:
            consumer.mark(flags if salt % 2 else bytes(flags))
        else:
            flags = []
        give = min(give, consumer.held)
        assert consumer.release(give) == give
        self.release(stage, first + give - 1, flags)

    @rule(stage=st.integers(0, 3), most=st.integers(1, 20), give=st.integers(0, 20))
    def view(self, stage: int, most: int, give: int) -> None:
        stage, consumer = self.pick(stage)
        model = self.model
        visible = [
            s for s in range(model.at[stage] + 1, model.limit(stage) + 1) if not model.hidden(stage, s)
        ]
        if not visible:
            self.release(stage, model.limit(stage))
            with pytest.raises(self.nothing(stage) or AssertionError):
                consumer.view(most, timeout=0)
            return
        self.release(stage, visible[0] - 1)
        view = consumer.view(most, timeout=0)
        first, last = visible[0], visible[0] + len(view) - 1
        assert first <= last <= min(first + most - 1, model.limit(stage))
        assert not any(model.hidden(stage, s) for s in range(first, last + 1))
        assert [bytes(message) for message in view] == model.log[first - 1 : last]
        if self.fixed:
            with memoryview(view) as records:
                assert records.readonly
                assert records.tobytes() == b"".join(model.log[first - 1 : last])
        give = min(give, len(view))
        view.release(give)
        self.release(stage, first + give - 1)

    @rule(stage=st.integers(0, 3))
    def open_again(self, stage: int) -> None:
        stage, consumer = self.pick(stage)
        with pytest.raises(_ring.RingBusy):
            self.ring.consumer(stage)
        consumer.close()
        self.consumers[stage] = self.ring.consumer(stage)
        assert self.consumers[stage].at == self.model.at[stage]

    @precondition(lambda self: not self.multi)
    @rule()
    def produce_again(self) -> None:
        with pytest.raises(_ring.RingBusy):
            self.ring.producer()
        self.producers[0].close()
        self.producers = [self.ring.producer()]
        assert self.producers[0].at == len(self.model.log)

    @precondition(lambda self: not self.model.ended and len(self.model.log) > 30)
    @rule()
    def end(self) -> None:
        self.ring.end(len(self.model.log))
        self.model.ended = True

    @invariant()
    def counts(self) -> None:
        if not hasattr(self, "ring"):
            return
        assert [consumer.at for consumer in self.consumers] == self.model.at
        assert [consumer.lag for consumer in self.consumers] == [
            len(self.model.log) - at for at in self.model.at
        ]
        assert sum(producer.lost for producer in self.producers) == self.model.lost
        assert self.ring.ended == (len(self.model.log) if self.model.ended else None)

    def teardown(self) -> None:
        if hasattr(self, "ring"):
            for one in [*self.producers, *self.consumers]:
                one.close()
            self.ring.close()


LIMITS = settings(max_examples=60, stateful_step_count=60, deadline=None)
VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "fixed": {"fixed": True},
    "drop": {"drop": True},
    "fixed_drop": {"fixed": True, "drop": True},
    "multi": {"multi": True},
    "multi_fixed_drop": {"multi": True, "fixed": True, "drop": True},
    "filters": {"filters": 0b0011},
    "fixed_filters": {"filters": 0b0101, "fixed": True},
    "multi_filters": {"filters": 0b0001, "multi": True},
}
for _name, _values in VARIANTS.items():
    _case = type(_name, (Gated,), _values).TestCase
    _case.settings = LIMITS
    globals()[f"Test_{_name}"] = _case
del _case
