"""A proxy between a client and PostgreSQL that knows its protocol (version 3) and fails where a test says.

Statements are recognised by their text, sent whole (Query) or in parts (Parse, Bind, Execute, prepared before or not). The answer
to a statement is all that the server says up to ReadyForQuery: only there is a transaction over that no block holds open.
A rule names a point, a pattern and what happens: a cut of both sides, a wait, or a hold until the test lets go.

It runs in threads of the test: a call that blocks with the interpreter's lock held cannot pass it. Of psycopg that is
`Connection.cancel`; `cancel_safe` passes.

Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol", "Message Flow" and "Message Formats".
"""

from __future__ import annotations

import enum
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, NamedTuple, Self
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

PATIENCE_S = 60.0
_CANCEL, _SSL, _GSS = 80877102, 80877103, 80877104  # codes in the place of the protocol version
NO_ANSWER = {b"p", b"d", b"c", b"f", b"X"}  # from the client: passwords, COPY data and its end, goodbye
ENDS = {b"Q", b"F", b"S"}  # from the client: each is answered by one ReadyForQuery
FLUSH = b"H"  # from the client: it waits for what the server has to say so far
READY = b"Z"
COPY_STARTS = {b"G", b"W"}  # from the server: it waits for data now


class Point(enum.Enum):
    """Where, on the way of a statement."""

    BEFORE = "the server has nothing of it that counts: no Query, no Execute"
    HALF = "the server has half the bytes of the Query or Execute"
    SENT = "the server has it whole and goes on alone; when it has done it is open"
    DONE = "the server has done it and answered, the client has nothing of the answer"
    TOLD = "the client has all of the answer but its last byte"


class Message(NamedTuple):
    """One message of either side; `kind` is its first byte."""

    kind: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        return self.kind + struct.pack("!i", len(self.body) + 4) + self.body


class Rule:
    """What happens at a point of a statement."""

    def __init__(
        self, point: Point, pattern: str, act: Callable[[Rule], bool], skip: int, times: int
    ) -> None:
        self.point, self.pattern, self.act = point, re.compile(pattern, re.IGNORECASE), act
        self._skip, self._left = skip, times
        self.reached = threading.Event()
        self._go = threading.Event()
        self._cut = False

    def takes(self, text: str) -> bool:
        """Whether it is for this statement; counts."""
        if not self.pattern.search(text):
            return False
        if self._skip or not self._left:
            self._skip = max(0, self._skip - 1)
            return False
        self._left -= 1
        return True

    def wait(self, seconds: float = PATIENCE_S) -> None:
        """Until a statement is at the point. Raises TimeoutError."""
        if not self.reached.wait(seconds):
            raise TimeoutError(
                f"no statement like {self.pattern.pattern!r} came to {self.point.name} in {seconds} s"
            )

    def release(self, *, cut: bool = False) -> None:
        """Let a held statement go on, or cut its connection there."""
        self._cut = cut
        self._go.set()

    def held(self) -> bool:
        self._go.wait()
        return self._cut


class _Exchange:
    """What a client asks up to a Sync, or in one Query, with the rule it came under."""

    def __init__(self) -> None:
        self.rule: Rule | None = None
        self.known = (
            threading.Event()
        )  # whether there is one: the server may fail at the Parse, before the Execute is seen
        self.sent = threading.Event()  # it is with the server, and what happens then has happened


class _Link:
    """One connection through the proxy; a thread for each way."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.exchanges: deque[_Exchange] = deque()  # asked and not yet answered, the oldest first
        self.open: _Exchange | None = None  # the youngest of them, until it is asked to its end
        self.statements: dict[bytes, str] = {}
        self.portals: dict[bytes, str] = {}
        self.threads = [
            threading.Thread(target=self._run, args=(way, source), daemon=True)
            for way, source in ((self._ask, client), (self._answer, server))
        ]
        for thread in self.threads:
            thread.start()

    def cut(self) -> None:
        """End both sides; what was sent to them before arrives."""
        for side in (self.client, self.server):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        for thread in self.threads:
            thread.join(PATIENCE_S)
        self.client.close()
        self.server.close()

    def _run(self, way: Callable[[BinaryIO], None], source: socket.socket) -> None:
        with (
            source.makefile("rb") as file,
            suppress(OSError, EOFError),
        ):  # one side has gone: so does the other
            way(file)
        self.cut()
        for exchange in tuple(self.exchanges):  # nobody asks any more
            exchange.known.set()
            exchange.sent.set()

    def _at(self, point: Point, rule: Rule | None) -> None:
        if rule is not None and rule.point is point:
            rule.reached.set()
            if rule.act(rule):
                raise EOFError

    def _ask(self, source: BinaryIO) -> None:
        while True:
            size, code = struct.unpack("!ii", exactly(source, 8))
            if code not in {_SSL, _GSS}:
                break
            self.client.sendall(b"N")  # not encrypted: the proxy reads what passes
        self.server.sendall(struct.pack("!ii", size, code) + exactly(source, size - 8))
        if code == _CANCEL:
            exactly(source, 1)  # it has no answer, the client goes
        while True:
            self._forward(message(source))

    def _forward(self, asked: Message) -> None:
        raw = asked.raw
        if asked.kind in NO_ANSWER:
            self.server.sendall(raw)
            return
        if self.open is None:
            self.open = _Exchange()
            self.exchanges.append(self.open)
        text = self._text(asked)
        if text is not None and (rule := self.proxy._seen(text)) is not None:
            self.open.rule = rule
            self.open.known.set()
            self._at(Point.BEFORE, rule)
            if rule.point is Point.HALF:
                half = len(raw) // 2
                self.server.sendall(raw[:half])
                self._at(Point.HALF, rule)
                raw = raw[half:]
        if asked.kind in ENDS or asked.kind == FLUSH or text is not None:
            self.open.known.set()
        if asked.kind not in ENDS:
            self.server.sendall(raw)
            return
        asked_now, self.open = self.open, None
        self.proxy.round_trips += 1
        self.server.sendall(raw)
        try:
            self._at(Point.SENT, asked_now.rule)
        except EOFError:
            self.cut()  # before the answer may pass
            raise
        finally:
            asked_now.sent.set()

    def _text(self, asked: Message) -> str | None:
        """The statement that this message has the server do, if it is such a message."""
        first, _, rest = asked.body.partition(b"\0")
        if asked.kind == b"Q":
            return first.decode(errors="replace")
        if asked.kind == b"P":
            self.statements[first] = rest.partition(b"\0")[0].decode(errors="replace")
        elif asked.kind == b"B":
            self.portals[first] = self.statements.get(rest.partition(b"\0")[0], "")
        elif asked.kind == b"E":
            return self.portals.get(first, "")
        return None

    def _answer(self, source: BinaryIO) -> None:
        kept = b""
        while True:
            try:
                said = message(source)
            except (OSError, EOFError):
                self.client.sendall(kept)  # the last words of a server that ends before it is ready
                raise
            kept += said.raw
            if self.exchanges:
                self.exchanges[0].known.wait()
            rule = self.exchanges[0].rule if self.exchanges else None
            if rule is not None and rule.point in {Point.DONE, Point.TOLD}:
                if said.kind == READY:
                    self._at(Point.DONE, rule)
                    if rule.point is Point.TOLD:
                        self.client.sendall(kept[:-1])
                        self._at(Point.TOLD, rule)
                        kept = kept[-1:]
                elif said.kind not in COPY_STARTS:
                    continue
            if said.kind == READY and self.exchanges:
                self.exchanges.popleft().sent.wait()  # a fast server must not overtake a cut
            self.client.sendall(kept)
            kept = b""


class Proxy:
    """Listens on 127.0.0.1 for clients of the server of `url`, by its socket or by TCP.

    `statements` has the text of every statement that came, `round_trips` the number of Query and Sync.
    """

    def __init__(self, url: str) -> None:
        self.statements: list[str] = []
        self.round_trips = 0
        self.accepts = True  # if not, connections are closed as soon as they come
        self._rules: list[Rule] = []
        self._links: list[_Link] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.target(url)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def target(self, url: str) -> None:
        """Lead new connections to another server."""
        self._to = {key: str(value) for key, value in conninfo_to_dict(url).items()}

    @property
    def url(self) -> str:
        """The URL through the proxy."""
        password = f":{quote(self._to['password'], safe='')}" if "password" in self._to else ""
        user, dbname = quote(self._to.get("user", "postgres")), quote(self._to.get("dbname", "postgres"))
        return f"postgresql://{user}{password}@127.0.0.1:{self.port}/{dbname}"

    def cut(self, point: Point, pattern: str, *, skip: int = 0, times: int = 1) -> Rule:
        """Cut the connection when a statement like `pattern` (a regular expression) is at the point."""
        return self._add(Rule(point, pattern, lambda _: True, skip, times))

    def delay(self, point: Point, pattern: str, seconds: float, *, skip: int = 0, times: int = 1) -> Rule:
        """Keep it there for a time."""
        return self._add(Rule(point, pattern, lambda _: time.sleep(seconds) is not None, skip, times))

    def hold(self, point: Point, pattern: str, *, skip: int = 0, times: int = 1) -> Rule:
        """Keep it there until `release`: a network that stalls; or the moment for something else to happen."""
        return self._add(Rule(point, pattern, Rule.held, skip, times))

    def cut_all(self) -> None:
        """Cut every connection that is open now."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        self._listener.close()
        for rule in self._rules:
            rule.release(cut=True)
        for link in self._links:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add(self, rule: Rule) -> Rule:
        with self._lock:
            self._rules.append(rule)
        return rule

    def _seen(self, text: str) -> Rule | None:
        with self._lock:
            self.statements.append(text)
            return next((rule for rule in self._rules if rule.takes(text)), None)

    def _connect(self) -> socket.socket:
        host, port = self._to.get("host", "127.0.0.1"), int(self._to.get("port", "5432"))
        if not host.startswith("/"):
            return socket.create_connection((host, port), PATIENCE_S)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(f"{host}/.s.PGSQL.{port}")
        except OSError:
            server.close()
            raise
        return server

    def _listen(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                try:
                    server = self._connect() if self.accepts else None
                except OSError:
                    server = None
                if server is None:
                    client.close()
                    continue
                server.settimeout(None)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    for old in self._links:
                        if not any(thread.is_alive() for thread in old.threads):
                            old.close()
                    self._links = [
                        one for one in self._links if any(thread.is_alive() for thread in one.threads)
                    ]
                    self._links.append(_Link(self, client, server))


def exactly(source: BinaryIO, size: int) -> bytes:
    """Read so many bytes. Raises EOFError."""
    data = source.read(size)
    if len(data) < size:
        raise EOFError
    return data


def message(source: BinaryIO) -> Message:
    """Read one message. Raises EOFError."""
    kind, size = struct.unpack("!ci", exactly(source, 5))
    return Message(kind, exactly(source, size - 4))
