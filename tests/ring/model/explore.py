"""Every behaviour of a few threads over the memory of `machine`.

A thread is a body: a generator function that takes the thread's local state, yields operations, and returns the local state
of its next turn, or None when it is finished. Local state is a hashable value and the only thing that outlives a turn; so two
ways to the same point are one state to the search, however they differ behind it.

Operations that neither choose nor take a choice from anybody run at once (`Machine.eager`). Observers (snapshots, readers
that write nothing) run after everybody else, each by itself: they may read every message that was there at any time, so
nothing is lost by it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from ring_model.machine import Machine, State, Thread, put
from ring_model.steps import SC, BugError, Choose, Fence, Load, Op

Turn = Generator[Op, int, object]
Body = Callable[[Any], Turn]
Trace = tuple["Trace", int, Op, int] | None


@dataclass(frozen=True)
class Actor:
    """A thread: its name, its body, its local state at the start."""

    name: str
    body: Body
    local: object


@dataclass(frozen=True)
class Program:
    """Threads, observers and their memory; `shared`: atomics written by several threads; `end` looks at the final values."""

    actors: list[Actor]
    atomics: dict[str, int]
    plain: dict[str, int] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    observers: list[Actor] = field(default_factory=list)
    observed: frozenset[str] = frozenset()  # locations that observers read
    end: Callable[[dict[str, int]], None] | None = None


@dataclass
class Count:
    """How much was looked at: states, complete executions, observations (states of observers)."""

    states: int = 0
    complete: int = 0
    observed: int = 0


class Search:
    """One exhaustive walk over a program."""

    def __init__(self, program: Program, limit: int) -> None:
        """Refuse to go over `limit` states: a walk that is cut short proves nothing."""
        self.program = program
        self.limit = limit
        self.count = Count()
        self.machine = Machine(program.atomics, program.plain, program.shared, len(program.actors))
        self.keep = frozenset(self.machine.place[name] for name in program.observed)
        self.turns: dict[tuple[Body, object, tuple[int, ...]], tuple[Op | None, object]] = {}
        self.watched: set[tuple[int, object]] = set()

    def next_op(self, actor: Actor, thread: Thread) -> tuple[Op | None, object]:
        """What the thread does next, or (None, the local state that its turn ended with)."""
        key = (actor.body, thread.local, thread.heard)
        if key in self.turns:
            return self.turns[key]
        turn = actor.body(thread.local)
        try:
            op = next(turn)
            for one in thread.heard:
                op = turn.send(one)
            found: tuple[Op | None, object] = (op, None)
        except StopIteration as ended:
            found = (None, ended.value)
        self.turns[key] = found
        return found

    def settle(self, state: State, actors: list[Actor], trace: Trace) -> tuple[State, list[Op | None], Trace]:
        """Run what runs at once; the state, everybody's next operation (None: finished or asleep), and the trace."""
        ops: list[Op | None] = [None] * len(actors)
        for who, actor in enumerate(actors):
            while (thread := state.threads[who]) is not None and thread.asleep < 0:
                op, local = self.attempt(trace, self.next_op, actor, thread)
                if op is None:
                    state = self.turn_over(state, who, thread, local)
                elif self.machine.eager(op):
                    (state,) = self.attempt((trace, who, op, 0), self.machine.successors, state, who, op)
                    trace = (trace, who, op, 0)
                else:
                    ops[who] = op
                    break
        return state, ops, trace

    @staticmethod
    def turn_over(state: State, who: int, thread: Thread, local: object) -> State:
        """The next turn, or the end of the thread."""
        after = None if local is None else thread._replace(local=local, heard=())
        return state._replace(threads=put(state.threads, who, after))

    def attempt(self, trace: Trace, step: Callable[..., Any], *arguments: object) -> Any:
        """A step; a bug that shows in it takes its trace along."""
        try:
            return step(*arguments)
        except BugError as bug:
            names = [one.name for one in self.program.actors]
            while trace is not None:
                trace, who, op, heard = trace
                bug.trace.append(f"{names[who] if who < len(names) else 'observer'}: {op} -> {heard}")
            bug.trace.reverse()
            raise

    def run(self) -> Count:
        """Walk; raises BugError on the first behaviour that is wrong."""
        actors = self.program.actors
        seen: set[State] = set()
        stack: list[tuple[State, Trace]] = [(self.machine.start([one.local for one in actors]), None)]
        while stack:
            state, trace = stack.pop()
            state, ops, trace = self.settle(state, actors, trace)
            state = self.machine.tidy(state, self.keep)
            if state in seen:
                continue
            seen.add(state)
            self.count.states = len(seen)
            if len(seen) > self.limit:
                raise RuntimeError(f"more than {self.limit} states: choose a smaller program")
            before = len(stack)
            for who, op in enumerate(ops):
                if op is not None:
                    for after in self.attempt(trace, self.machine.successors, state, who, op):
                        thread = after.threads[who]
                        stack.append(
                            (after, (trace, who, op, thread.heard[-1] if thread and thread.heard else 0))
                        )
            if len(stack) == before:
                self.finish(state, trace)
        return self.count

    def finish(self, state: State, trace: Trace) -> None:
        """Nobody can go on: everybody is finished, or that is the bug; then observers look at all that happened."""
        self.attempt(trace, self.check_finished, state)
        self.count.complete += 1
        if self.program.end:
            final = {name: state.memory[place][-1].value for name, place in self.machine.place.items()}
            self.attempt(trace, self.program.end, final)
        for number, observer in enumerate(self.program.observers):
            kept = sorted(self.keep)
            times = [
                [(one.value, [one.view.times[k] for k in kept]) for one in state.memory[place]]
                for place in kept
            ]
            if (key := (number, str(times))) not in self.watched:
                self.watched.add(key)
                self.observe(state, observer, trace)

    def check_finished(self, state: State) -> None:
        """Somebody who sleeps or waits for ever was not told."""
        for actor, thread in zip(self.program.actors, state.threads, strict=True):
            if thread is not None and thread.asleep >= 0:
                raise BugError(f"lost wake-up: {actor.name} sleeps and nobody will wake it")
            if thread is not None:
                raise BugError(f"stuck: {actor.name} waits for what never comes")

    def observe(self, state: State, observer: Actor, trace: Trace) -> None:
        """Every run of one observer over the messages of a finished execution."""
        zero = self.machine.zero
        watching = state._replace(
            threads=(Thread(observer.local, (), zero, self.machine.nothing, self.machine.nothing),)
        )
        seen: set[State] = set()
        stack: list[tuple[State, Trace]] = [(watching, trace)]
        while stack:
            state, trace = stack.pop()
            thread = state.threads[0]
            assert thread is not None
            op, local = self.attempt(trace, self.next_op, observer, thread)
            if op is None:
                after = [] if local is None else [self.turn_over(state, 0, thread, local)]
            elif isinstance(op, Load | Choose) or (isinstance(op, Fence) and op.order is not SC):
                after = self.machine.successors(state, 0, op)
            else:
                raise ValueError(f"an observer writes nothing: {op}")
            for one in after:
                if one not in seen:
                    seen.add(one)
                    self.count.observed += 1
                    heard = sum(one.threads[0].heard[-1:]) if one.threads[0] else 0
                    stack.append((one, (trace, len(self.program.actors), op, heard) if op else trace))


def explore(program: Program, limit: int = 400_000) -> Count:
    """Walk all behaviours of the program; raises BugError where one is wrong, RuntimeError where there are too many."""
    return Search(program, limit).run()


def forbid(condition: bool, reason: str) -> None:
    """A bug, if the condition holds."""
    if condition:
        raise BugError(reason)
