"""The ring engine in C: bounded rings of messages in shared memory.

Sequences count from 1; 0 is "nothing yet". A timeout is seconds: None waits for ever, 0 looks once; when it is over, readers raise
RingTimeout, writers say how many they published. Waiting gives the interpreter lock away and lets signal handlers run every 50 ms.

Producers, consumers, stages and feeders belong to one thread each; a second one gets BufferError while the first is inside. After a
fork the parent's objects are refused in the child (BufferError): ask the inherited Ring for new ones. BufferError is misuse:
something is closed, out, in use, or not for this kind of ring. A file that another process truncates while it is mapped kills by
SIGBUS, as any mapping: whoever may write the file may do that.
"""

from os import PathLike
from types import TracebackType
from typing import Final, Literal, Self, SupportsIndex, final

from _typeshed import ReadableBuffer

MAX_CAPACITY: Final[int]
MAX_SLOT_BYTES: Final[int]
MAX_META_BYTES: Final[int]
MAX_STAGES: Final[int]
MAX_PRODUCERS: Final[int]
LAYOUT_VERSION: Final[int]

TIMEOUT: Final[int]
STOPPED: Final[int]
ENDED: Final[int]
CORRUPT: Final[int]
MAGIC_BAD: Final[int]
VERSION_BAD: Final[int]
NOT_READY: Final[int]
SIZE_BAD: Final[int]
BUSY: Final[int]
FULL: Final[int]
OVERRUN: Final[int]

class RingError(Exception):
    """What a ring refuses; `code` is the engine's answer, one of the numbers above."""

    code: int

class RingStopped(RingError):  # noqa: N818 - a state, not a mistake
    """Somebody stopped the ring: nothing at or after `sequence` of `stage` (None: no stage) is passed on."""

    stage: int | None
    stop_code: int
    sequence: int

class RingEnded(RingError):  # noqa: N818
    """The ring has ended and every message was taken."""

class RingCorrupt(RingError):  # noqa: N818
    """The mapping says something impossible: another process wrote it. Capture it, then recreate the ring."""

class RingUnusable(RingError):  # noqa: N818
    """No ring that this version can open: MAGIC_BAD, VERSION_BAD, NOT_READY, SIZE_BAD; CORRUPT: the header contradicts itself."""

class RingBusy(RingError):  # noqa: N818
    """A living participant has the place, or the file exists."""

class RingFull(RingError):  # noqa: N818
    """No slot is free, and the ring drops."""

class RingOverrun(RingError):  # noqa: N818
    """Broadcast: `lost` messages were overwritten unread; the next one is `sequence`. Told once, in its place."""

    lost: int
    sequence: int

class RingTimeout(RingError, TimeoutError):  # noqa: N818
    """The time is over."""

class BadLine(RingError):  # noqa: N818
    """Line `line` (from 1) at byte `offset` of the input does not fit a slot; everything before it was published."""

    line: int
    offset: int

@final
class Ring:
    """A ring: bounded messages in shared memory. Any thread may use it."""

    path: Final[str | None]
    capacity: Final[int]
    slot_bytes: Final[int]
    stride: Final[int]
    filters: Final[int]
    mapped_bytes: Final[int]
    created_unix_ns: Final[int]

    @classmethod
    def create(
        cls,
        path: str | bytes | PathLike[str] | PathLike[bytes] | None,
        *,
        capacity: int,
        slot_bytes: int,
        stages: list[int] | tuple[int, ...],
        kind: Literal["gated", "broadcast"] = "gated",
        wait: Literal["spin", "paced", "backoff", "park"] = "backoff",
        multi: bool = False,
        fixed: bool = False,
        filters: int = 0,
        drop: bool = False,
        meta: ReadableBuffer = b"",
        spec_sha256: ReadableBuffer = b"",
    ) -> Self:
        """A new ring.

        Args:
            path: a file that must not exist; None: anonymous memory, inherited by fork.
            capacity: slots, a power of two up to MAX_CAPACITY.
            slot_bytes: the largest message; with `fixed` the size of each.
            stages: bit j of number i: stage i waits for stage j < i; 0: for the producer. 1 to MAX_STAGES.
            kind: a broadcast waits for nobody and overwrites; its stages see what they lost.
            filters: bit i: stage i marks messages, which stages below it then do not see.
            drop: a full ring refuses the new message and counts it.
            meta: kept with the ring (the spec's text); spec_sha256: 32 bytes, or b"".

        Raises:
            RingBusy: the file exists. OSError: it cannot be made. ValueError, TypeError: an argument.
        """
    @classmethod
    def attach(cls, path: str | bytes | PathLike[str] | PathLike[bytes], *, writable: bool = True) -> Self:
        """A ring that exists; read-only if not `writable`: to look, not to take part.

        Raises:
            RingUnusable: it is no ring of this version. OSError: it cannot be opened.
        """
    @property
    def stages(self) -> list[int]: ...
    @property
    def kind(self) -> Literal["gated", "broadcast"]: ...
    @property
    def wait(self) -> Literal["spin", "paced", "backoff", "park"]: ...
    @property
    def meta(self) -> bytes: ...
    @property
    def spec_sha256(self) -> bytes: ...
    @property
    def stopped(self) -> tuple[int | None, int, int] | None:
        """(stage, code, sequence) of the stop; (None, 0, 0) while it is being written, or its writer died in that."""
    @property
    def ended(self) -> int | None:
        """The final sequence."""
    @property
    def closed(self) -> bool: ...
    @property
    def writable(self) -> bool: ...
    @property
    def multi(self) -> bool: ...
    @property
    def fixed(self) -> bool: ...
    @property
    def drop(self) -> bool: ...
    def producer(self) -> Producer:
        """Take the producer's place (`multi`: one of MAX_PRODUCERS), also a dead one's; RingBusy: a living process has it."""
    def consumer(self, stage: SupportsIndex, /) -> Consumer:
        """Take the place of a stage; RingBusy: a living process has it. It goes on after what was given back last."""
    def snapshot_raw(self, liveness: bool = False) -> bytes:
        """The packed record (rc_snap of core.h), consistent, taken without stopping anybody; `liveness`: also which owners live."""
    def stop(self, stage: SupportsIndex | None, code: SupportsIndex, sequence: SupportsIndex) -> bool:
        """Stop everybody; the first one wins: True if it was this call."""
    def end(self, final: SupportsIndex, /) -> None:
        """No message after sequence `final`; for several producers, when all of them are done."""
    def close(self) -> None:
        """Unmap; again: nothing. BufferError while producers or consumers are open."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Producer:
    """A producer's place in a ring."""

    ring: Final[Ring]
    at: Final[int]
    slot_bytes: Final[int]
    lost: Final[int]
    stalls: Final[int]
    batches: Final[int]

    @property
    def closed(self) -> bool: ...
    def publish(self, message: ReadableBuffer, /) -> bool:
        """One message; waits for a slot as long as it takes. False: the ring drops and was full.

        Raises:
            ValueError: it does not fit. RingStopped, RingCorrupt.
        """
    def publish_many(self, messages: list[bytes], timeout: float | None = None) -> int:
        """A list in order; how many were published: fewer when the time was over, or the ring drops and was full.

        Raises:
            TypeError, ValueError: one of them is wrong; none was published. RingStopped, RingCorrupt: `at` says how far it came.
        """
    def publish_buffer(self, records: ReadableBuffer, timeout: float | None = None) -> int:
        """Whole records of a fixed ring, one after the other; as publish_many."""
    def claim(self, n: SupportsIndex, timeout: float | None = None) -> Claim:
        """Up to `n` adjacent slots to write into; gated fixed rings of one producer. RingTimeout, RingFull: there is none."""
    def end(self) -> None:
        """No message after the last one published; one producer."""
    def beat(self) -> None: ...
    def close(self) -> None:
        """Leave the place. BufferError while a claim is out."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Claim:
    """Claimed slots: a writable buffer of records, seen by nobody before commit(). Left or forgotten without it: given up."""

    first: Final[int]

    def commit(self, n: SupportsIndex | None = None) -> int:
        """Publish the first `n` (all), give up the others. BufferError while memoryviews are alive."""
    def release(self) -> None:
        """Publish nothing."""
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Consumer:
    """A stage's place in a ring."""

    ring: Final[Ring]
    stage: Final[int]
    filter: Final[bool]
    at: Final[int]
    held: Final[int]
    skipped: Final[int]
    lost: Final[int]
    stalls: Final[int]
    batches: Final[int]

    @property
    def closed(self) -> bool: ...
    @property
    def lag(self) -> int:
        """Messages published (with several producers: claimed) and not yet given back."""
    @property
    def held_bytes(self) -> int:
        """Payload of the held sequences, also of those that a filter rejected."""
    def take(self, timeout: float | None = None) -> bytes:
        """The next message that no filter above rejected.

        Raises:
            RingTimeout, RingEnded, RingStopped, RingCorrupt; RingOverrun on a broadcast ring.
        """
    def take_many(self, max: SupportsIndex, timeout: float | None = None) -> list[bytes]:  # noqa: A002
        """What is there, up to `max` sequences; without the messages that a filter above rejected (`skipped`): it may be []."""
    def peek_many(self, max: SupportsIndex, timeout: float | None = None) -> list[bytes]:  # noqa: A002
        """As take_many, but nothing is given back: `held` sequences are, by release(). Not on a broadcast ring."""
    def release(self, n: SupportsIndex | None = None) -> int:
        """Give back the first `n` held sequences (all); the others will be shown again."""
    def sequence(self, index: SupportsIndex, /) -> int:
        """The sequence of the index-th message that peek_many or view showed."""
    def mark(self, flags: list[bool] | bytes, /) -> None:
        """A filter's answers, one for each message shown: true, it goes no further. Without it all of them go on."""
    def view(self, max: SupportsIndex, timeout: float | None = None) -> View:  # noqa: A002
        """Messages where they stand, none that a filter above rejected; fixed: up to the last slot. Not on a broadcast ring."""
    def run(self, stage: NativeStage, timeout: float | None = None) -> bool:
        """Run a native stage. True: the ring has ended; False: the time is over.

        Raises:
            RingStopped, RingCorrupt: `stage.code` is not 0 if the stage itself did it, at `stage.sequence`.
        """
    def beat(self) -> None: ...
    def leave(self) -> None:
        """Take no further part, gate nobody, close; only a stage that no other waits for."""
    def close(self) -> None:
        """Leave the place. BufferError while a view is out."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class View:
    """Messages where they stand. memoryview(view): the records of a fixed ring; view[i]: one message.

    Left without an exception, all are given back: BufferError if a memoryview is alive (also the last one of a for loop: `del` it).
    Left by an exception, or forgotten: none is, they will be shown again.
    """

    @property
    def released(self) -> bool: ...
    def release(self, n: SupportsIndex | None = None) -> None:
        """Give back the first `n` messages (all); the others will be shown again. BufferError while memoryviews are alive."""
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: SupportsIndex, /) -> memoryview: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

class NativeStage:
    """An operation in C; Consumer.run runs it without the interpreter lock. Numbers are at most 50 ms old."""

    op: Final[int]
    taken: Final[int]
    messages: Final[int]
    bytes: Final[int]
    rejected: Final[int]
    code: Final[int]
    sequence: Final[int]

    def apply(self, message: ReadableBuffer, /) -> int:
        """One message outside a ring: 1 goes on, 0 rejected, < 0 minus a code of stages.h."""
    def hexdigest(self) -> str:
        """SHA-256 of everything so far; Digest only. BufferError while it runs."""

@final
class Forward(NativeStage):
    """Reads nothing."""

    def __init__(self) -> None: ...

@final
class Count(NativeStage):
    """Messages and bytes."""

    def __init__(self) -> None: ...

@final
class Digest(NativeStage):
    """SHA-256 over each message and one line end after it."""

    def __init__(self) -> None: ...

@final
class Filter(NativeStage):
    """Keeps JSON objects whose `path` has `value`; needs a stage of Ring.create(filters=…)."""

    def __init__(self, path: str, value: str) -> None: ...

@final
class Feeder:
    """Publishes the lines of a file descriptor; `offset`: where the descriptor stands."""

    lines: Final[int]
    bytes: Final[int]
    offset: Final[int]
    unterminated: Final[bool]

    def __init__(self, producer: Producer, offset: int = 0) -> None: ...
    def feed(self, fd: SupportsIndex, timeout: float | None = None) -> bool:
        """Publish lines. True: the end of the input, Producer.end() is the caller's; False: the time is over.

        Raises:
            BadLine: it does not fit. OSError: the input cannot be read. RingStopped, RingCorrupt.
        """

def noop(argument: object, /) -> None:
    """Nothing: what a call costs."""

def snapshot_size(cells: SupportsIndex, /) -> int:
    """Bytes of a packed snapshot of so many cells."""
