"""A real S3 server for the tests: moto's, a process of its own on loopback; and a relay before it that fails on demand."""

from __future__ import annotations

import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

SECRET = "s3cr3t-that-nobody-may-see"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIDOFTHETESTS",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
}
PATIENCE_S = 60


class Server:
    """A running server.

    Attributes:
        url: its endpoint.
        process: to kill it.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port
        self.url = f"http://127.0.0.1:{port}"

    def bucket(self, name: str) -> str:
        """Make a bucket."""
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=PATIENCE_S):
            return name


@contextmanager
def server(*, free_actions: int | None = None) -> Iterator[Server]:
    """Start a server and end it.

    Args:
        free_actions: after so many requests each must be signed with a key that the server knows.
    """
    for _ in range(5):  # the port may be taken between asking for it and using it
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        environ = {**os.environ, "MOTO_ENABLE_ISO_REGIONS": "false"}
        if free_actions is not None:
            environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(free_actions)
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environ,
        )
        try:
            if _listens(process, port):
                yield Server(process, port)
                return
        finally:
            process.kill()
            process.wait()
    raise RuntimeError("moto's server does not start: pip install 'moto[server]'")


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.05)
    return False


class Relay:
    """Passes requests on to a server, each on a connection of its own, and fails those that match.

    Attributes:
        fail: a pattern over the head of a request, and what is answered: bytes, or None to cut the connection.
        cut: a pattern, and after how many bytes of the answer the connection is cut.
        seen: the heads of all requests.
    """

    def __init__(self, port: int) -> None:
        self.fail: tuple[str, bytes | None] | None = None
        self.cut: tuple[str, int] | None = None
        self.times = 1 << 30  # how often
        self.seen: list[str] = []
        relay = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    relay.one(self.request, port)

        class Threads(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

        self._server = Threads(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def one(self, client: socket.socket, port: int) -> None:
        """One request and its answer."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := client.recv(65536)):
                return
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        text = head.decode("latin-1")
        self.seen.append(text)
        length = int((re.search(r"(?im)^content-length: (\d+)", text) or [0, 0])[1])
        while len(body) < length:
            if not (more := client.recv(1 << 16)):
                return
            body += more
        if self.fail is not None and self.times and re.search(self.fail[0], text):
            self.times -= 1
            if self.fail[1] is not None:
                client.sendall(self.fail[1])
            return
        limit = 1 << 60
        if self.cut is not None and self.times and re.search(self.cut[0], text):
            self.times -= 1
            limit = self.cut[1]
        head = re.sub(rb"(?im)^connection: .*\r\n", b"", head + b"\r\n") + b"connection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as upstream:
            upstream.sendall(head + body)
            while limit > 0 and (more := upstream.recv(1 << 16)):
                client.sendall(more[:limit])
                limit -= len(more)

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def answer(status: str, code: str = "", *, secret: str = "") -> bytes:
    """An answer of a server in the words of S3."""
    body = f"<Error><Code>{code}</Code><Message>{secret}</Message></Error>" if code else ""
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {len(body)}\r\n"
        f"connection: close\r\n\r\n{body}"
    ).encode()
