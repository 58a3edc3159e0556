"""C11 memory as a machine of views: what a thread may still read, and what it knows of plain accesses.

Every atomic location keeps its messages in modification order. A view holds, for each location, the oldest message that may
still be read, and one bit for each plain access known to have happened before. A relaxed or acquire load returns any message
that the view allows; an acquire load then joins the view that a release store left in the message. A read-modify-write reads
the newest message and carries its view on (release sequences). Fences: release keeps the view for later relaxed stores,
acquire joins what relaxed loads saw, sc joins both ways with one global view. This is RC11 (Lahav et al., PLDI 2017) without
sc accesses, for programs that order all stores to one location: a store that could also go before the newest message is
reported, never guessed.

Plain memory is checked for races as by vector clocks: an access must know the last write, a write must know the reads since
then too.

A futex wait compares under the kernel's lock: it may see an old value, but none older than what a wake already saw. Nothing
else is synchronised by it.

State is immutable tuples throughout, so that the search can remember it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ring_model.steps import (
    ACQUIRES,
    RELEASES,
    RLX,
    SC,
    BugError,
    Choose,
    Fence,
    Load,
    Op,
    Order,
    Read,
    Rmw,
    Store,
    Wait,
    Wake,
    Write,
)


class View(NamedTuple):
    """`times[k]`: oldest readable message of location k; `knows`: bits of the plain accesses that happened before."""

    times: tuple[int, ...]
    knows: int


class Message(NamedTuple):
    """A value in a location's history, the view it carries, and whether a read-modify-write put it there."""

    value: int
    view: View
    rmw: bool = False


class Thread(NamedTuple):
    """Where a thread stands: `local` and the answers since (`heard`) replay it; asleep on location `asleep`, else -1."""

    local: object
    heard: tuple[int, ...]
    now: View
    fenced: View  # of the last release fence
    pending: View  # what relaxed loads saw, for the next acquire fence
    asleep: int = -1


class State(NamedTuple):
    """The whole system. A finished thread is None."""

    threads: tuple[Thread | None, ...]
    memory: tuple[tuple[Message, ...], ...]
    plain: tuple[int, ...]
    fence: View  # of all sc fences so far
    kernel: tuple[int, ...]  # per location, the newest message that a wake call saw


def join(a: View, b: View) -> View:
    """The least view that allows no more than either."""
    if a is b or a == b:
        return a
    return View(tuple(map(max, a.times, b.times)), a.knows | b.knows)


def put(items: tuple[Any, ...], place: int, item: object) -> tuple[Any, ...]:
    """The tuple with one item replaced."""
    return (*items[:place], item, *items[place + 1 :])


class Machine:
    """The memory's rules for one set of locations and threads."""

    def __init__(
        self, atomics: dict[str, int], plain: dict[str, int], shared: frozenset[str], threads: int
    ) -> None:
        """Initial values; `shared`: atomics that several threads may write at once."""
        self.place = {name: k for k, name in enumerate(atomics)}
        self.cell = {name: k for k, name in enumerate(plain)}
        self.shared = shared
        self.count = threads
        self.width = threads + 1  # bits of a plain cell: its last write, then a read by each thread
        every = (1 << (self.width * len(plain))) - 1
        self.zero = View((0,) * len(atomics), every)
        self.nothing = View((0,) * len(atomics), 0)
        self.first = (
            tuple((Message(value, self.nothing),) for value in atomics.values()),
            tuple(plain.values()),
        )

    def start(self, locals_: list[object]) -> State:
        """Everybody before the first step."""
        threads = tuple(Thread(one, (), self.zero, self.nothing, self.nothing) for one in locals_)
        return State(threads, *self.first, self.nothing, (0,) * len(self.place))

    def eager(self, op: Op) -> bool:
        """May run at once, whatever the others do: it neither chooses nor takes a choice from anybody.

        A store only adds a message to read; plain accesses are ordered or a race in every interleaving.
        """
        match op:
            case Store(at=at):
                return at not in self.shared
            case Fence(order=order):
                return order is not SC
            case Read() | Write():
                return True
        return False

    def successors(self, state: State, who: int, op: Op) -> list[State]:
        """All states after this step of that thread; none while it has to wait."""
        thread = state.threads[who]
        assert thread is not None
        match op:
            case Load():
                return [
                    self.read(state, who, op.at, time, op.order)
                    for time in self.readable(state, thread, op.at)
                    if op.until is None or op.until(state.memory[self.place[op.at]][time].value)
                ]
            case Store():
                return [self.store(state, who, op)]
            case Rmw():
                return self.modify(state, who, op)
            case Fence():
                return [self.fence(state, who, op.order)]
            case Read() | Write():
                return [self.touch(state, who, op)]
            case Wait():
                return self.wait(state, who, op)
            case Wake():
                return [self.wake(state, who, op)]
            case Choose():
                return [self.answer(state, who, thread, number) for number in range(op.below)]

    def answer(self, state: State, who: int, thread: Thread, *heard: int) -> State:
        """The thread moved on, with or without an answer."""
        thread = thread._replace(heard=thread.heard + (heard or (0,)))
        return state._replace(threads=put(state.threads, who, thread))

    def readable(self, state: State, thread: Thread, at: str) -> range:
        """Times of the messages that the thread may read."""
        place = self.place[at]
        return range(thread.now.times[place], len(state.memory[place]))

    def saw(self, thread: Thread, place: int, time: int, message: Message, order: Order) -> Thread:
        """The thread after reading that message."""
        now = thread.now
        if now.times[place] != time:
            now = now._replace(times=put(now.times, place, time))
        if order in ACQUIRES:
            return thread._replace(now=join(now, message.view))
        return thread._replace(now=now, pending=join(thread.pending, message.view))

    def read(self, state: State, who: int, at: str, time: int, order: Order) -> State:
        """An atomic load of the message with that time."""
        place = self.place[at]
        message = state.memory[place][time]
        thread = state.threads[who]
        assert thread is not None
        return self.answer(state, who, self.saw(thread, place, time, message, order), message.value)

    def store(self, state: State, who: int, op: Store) -> State:
        """An atomic store, after the newest message."""
        thread = state.threads[who]
        assert thread is not None
        place = self.place[op.at]
        if thread.now.times[place] != len(state.memory[place]) - 1:
            raise BugError(f"unordered stores to {op.at}: one of thread {who} does not follow the newest")
        state, thread = self.append(state, thread, place, op.value, op.order, None)
        return self.answer(state, who, thread)

    def append(
        self, state: State, thread: Thread, place: int, value: int, order: Order, source: Message | None
    ) -> tuple[State, Thread]:
        """A new newest message; `source`: what a read-modify-write read."""
        time = len(state.memory[place])
        now = thread.now._replace(times=put(thread.now.times, place, time))
        view = (
            now if order in RELEASES else thread.fenced._replace(times=put(thread.fenced.times, place, time))
        )
        if source is not None:
            view = join(view, source.view)
        history = (*state.memory[place], Message(value, view, source is not None))
        return state._replace(memory=put(state.memory, place, history)), thread._replace(now=now)

    def modify(self, state: State, who: int, op: Rmw) -> list[State]:
        """A read-modify-write: success on the newest message only; a failed comparison is a load of any."""
        if op.at not in self.shared:
            raise ValueError(f"{op.at} is modified by several threads: declare it shared")
        thread = state.threads[who]
        assert thread is not None
        place = self.place[op.at]
        history = state.memory[place]
        after = []
        for time in self.readable(state, thread, op.at):
            message = history[time]
            value = op.change(message.value)
            if value is None:
                after.append(self.read(state, who, op.at, time, op.failed))
            elif time == len(history) - 1:
                known = self.saw(thread, place, time, message, op.order)
                changed, known = self.append(state, known, place, value, op.order, message)
                after.append(self.answer(changed, who, known, message.value))
            elif not history[time + 1].rmw:
                raise BugError(
                    f"unordered stores to {op.at}: a modification of thread {who} fits before a store"
                )
        return after

    def fence(self, state: State, who: int, order: Order) -> State:
        """A fence; sc is both halves and the global view."""
        thread = state.threads[who]
        assert thread is not None
        if order in ACQUIRES:
            thread = thread._replace(now=join(thread.now, thread.pending), pending=self.nothing)
        if order is SC:
            thread = thread._replace(now=join(thread.now, state.fence))
            state = state._replace(fence=thread.now)
        if order in RELEASES:
            thread = thread._replace(fenced=thread.now)
        return self.answer(state, who, thread)

    def touch(self, state: State, who: int, op: Read | Write) -> State:
        """A plain access, ordered after all that conflict with it or else a race."""
        thread = state.threads[who]
        assert thread is not None
        cell = self.cell[op.at]
        shift = cell * self.width
        written = 1 << shift
        reads = ((1 << self.count) - 1) << (shift + 1)
        knows = thread.now.knows
        if not knows & written:
            raise BugError(f"race on {op.at}: thread {who} does not know the last write")
        if isinstance(op, Write):
            if knows & reads != reads:
                raise BugError(f"race on {op.at}: thread {who} writes and does not know of every read")
            # Who knows this write knows the reads before it, so that only the write has to be remembered.
            state = self.learn(state, known=reads, unknown=written)
            state = state._replace(plain=put(state.plain, cell, op.value))
            mine = written
            heard = 0
        else:
            mine = 1 << (shift + 1 + who)
            state = self.learn(state, known=0, unknown=mine)
            heard = state.plain[cell]
        thread = state.threads[who]
        assert thread is not None
        now = thread.now._replace(knows=thread.now.knows | mine)
        return self.answer(state, who, thread._replace(now=now), heard)

    def learn(self, state: State, known: int, unknown: int) -> State:
        """Set and clear knowledge in every view there is."""

        def seen(view: View) -> View:
            knows = (view.knows | known) & ~unknown
            return view if knows == view.knows else View(view.times, knows)

        return self.everywhere(state, seen)

    def everywhere(self, state: State, change: Callable[[View], View]) -> State:
        """Every view of the state, changed."""
        done: dict[View, View] = {}

        def once(view: View) -> View:
            if (after := done.get(view)) is None:
                after = done[view] = change(view)
            return after

        return State(
            tuple(
                [
                    one and Thread(*one[:2], once(one.now), once(one.fenced), once(one.pending), one.asleep)
                    for one in state.threads
                ]
            ),
            tuple(
                [
                    tuple([Message(one.value, once(one.view), one.rmw) for one in history])
                    for history in state.memory
                ]
            ),
            state.plain,
            once(state.fence),
            state.kernel,
        )

    def wait(self, state: State, who: int, op: Wait) -> list[State]:
        """Sleep on the word, or go on because it has another value."""
        thread = state.threads[who]
        assert thread is not None
        place = self.place[op.at]
        after = []
        for time in range(max(thread.now.times[place], state.kernel[place]), len(state.memory[place])):
            message = state.memory[place][time]
            known = self.saw(thread, place, time, message, RLX)
            if message.value == op.value:
                after.append(state._replace(threads=put(state.threads, who, known._replace(asleep=place))))
            else:
                after.append(self.answer(state, who, known))
        return after

    def wake(self, state: State, who: int, op: Wake) -> State:
        """Everybody who sleeps on the word goes on; later waits see at least what this thread saw of it."""
        thread = state.threads[who]
        assert thread is not None
        place = self.place[op.at]
        time = max(state.kernel[place], thread.now.times[place])
        state = state._replace(kernel=put(state.kernel, place, time))
        for other, one in enumerate(state.threads):
            if one is not None and one.asleep == place:
                state = self.answer(state, other, one._replace(asleep=-1))
        return self.answer(state, who, thread)

    def tidy(self, state: State, keep: frozenset[int]) -> State:
        """Forget messages that no thread can read any more, but those of `keep`: equal futures become equal states."""
        alive = [one.now.times for one in state.threads if one is not None]
        if not alive:
            return state
        base = tuple(0 if k in keep else low for k, low in enumerate(map(min, zip(*alive, strict=True))))
        if not any(base):
            return state

        def moved(view: View) -> View:
            return View(
                tuple([time - low if time > low else 0 for time, low in zip(view.times, base, strict=True)]),
                view.knows,
            )

        state = state._replace(
            memory=tuple(history[low:] for history, low in zip(state.memory, base, strict=True)),
            kernel=tuple(max(0, time - low) for time, low in zip(state.kernel, base, strict=True)),
        )
        return self.everywhere(state, moved)
