"""A session: one store opened for one command, with everything a use case needs.

A read session opens the log read-only and appends nothing (architecture.md, idea 5). A write session judges the clock before
each append (settled.md, 1) and keeps the reading after it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
from muniment.app import clock, home, ids
from muniment.app.actor import os_actor
from muniment.app.home import make_private
from muniment.domain.canonical import encode
from muniment.domain.decision import ActorRef, Fact
from muniment.domain.envelope import read_fact
from muniment.domain.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from muniment.domain.query import Item, Query
from muniment.store.api import Appended, Condition, Draft, Log
from muniment.store.evidence import EvidenceStore
from muniment.store.evidence_open import VARIABLE, evidence_url, open_evidence
from muniment.store.files import faults
from muniment.store.open import folder_of, name_of, open_log
from muniment.store.postgres_url import is_postgres, parse, passwords

if TYPE_CHECKING:
    from muniment.app.handlers import Handler
    from muniment.app.request import Outcome, Request
    from muniment.domain.commands import AnyCommand
    from muniment.store.evidence_postgres import Connect

EVIDENCE, WORK, EXPORTS, KEYS = "evidence", "work", "exports", "keys"
SECRET = 8  # characters of a password that no other text holds by chance


class Options:
    """What every write command takes: reason, idempotency key, expected position, dry run, signing key."""

    def __init__(
        self,
        *,
        reason: str = "",
        key: str = "",
        expect: int | None = None,
        dry_run: bool = False,
        sign: str = "",
    ) -> None:
        self.reason = reason
        self.key = key
        self.expect = expect
        self.dry_run = dry_run
        self.sign = sign


class Session:
    """An open store. Use as a context manager.

    Args:
        url: a folder, or another URL that `store.open` knows.
        write: open for appending; else nothing can be appended.
        progress: told bytes done by whatever streams.
    """

    def __init__(
        self, url: str | Path, *, write: bool = False, progress: Callable[[int], None] | None = None
    ) -> None:
        self.url = str(url)
        self.name = name_of(url)
        self.log: Log = open_log(url, read_only=not write)
        self.write = write
        self.progress = progress
        try:
            self.evidence = evidence_of(url, getattr(self.log, "connection", None), read_only=not write)
        except BaseException:
            self.log.close()
            raise
        self._handler: Handler | None = None

    def __enter__(self) -> Self:
        """The open session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the log."""
        self.log.close()

    @property
    def store_id(self) -> str:
        """Id of the store.

        Raises:
            NotFoundError: `init` was cut short; run again, it goes on.
        """
        found = self.log.store_id
        if not found:
            raise NotFoundError(
                f"the store at {self.name} holds no records", code="store.empty", hint="muniment init"
            )
        return found

    @cached_property
    def folder(self) -> Path:
        """Where this user works for the store: its own folder, or that of the home (decision 0009)."""
        return folder_for(self.url, self.store_id)

    @property
    def home(self) -> Path:
        """The reader's own folder."""
        return home.home()

    @property
    def keys(self) -> Path:
        """Where this user's keys for this store are."""
        return home.key_dir(self.store_id)

    # -- reading ---------------------------------------------------------------------------------------------------

    def facts(self, query: Query, *, until: int | None = None, reverse: bool = False) -> list[Fact]:
        """The selected records as facts, in order."""
        return [read_fact(body, at) for at, body in self.log.read(query, until=until, reverse=reverse)]

    def last(self, item: Item) -> Fact | None:
        """The newest record of an item."""
        for at, body in self.log.read((item,), limit=1, reverse=True):
            return read_fact(body, at)
        return None

    # -- writing ---------------------------------------------------------------------------------------------------

    @property
    def handler(self) -> Handler:
        """The handler over this log."""
        if self._handler is None:
            from muniment.app.handlers import Handler

            self._handler = Handler(self.log, now=self.log.now, new_id=ids.uuid7)
        return self._handler

    def request(self, options: Options) -> Request:
        """Who asks and how: the operating-system user, or the identity of the key named by `sign`.

        Raises:
            NotFoundError, UnfitError, InvalidError: the key cannot be used.
        """
        from muniment.app.request import Request

        me = os_actor()
        request = Request(
            ActorRef(me.id, me.kind, me.auth),
            reason=options.reason,
            key=options.key,
            expect=options.expect,
            dry_run=options.dry_run,
        )
        if options.sign:
            from muniment.app import keys
            from muniment.domain.identity_state import HANDLES, key_item

            private = keys.load_key(options.sign, self.keys)
            key_id = keys.key_id(private)
            bound = [
                f
                for f in self.facts((key_item(key_id),))
                if f.type == "identity.added/1" and f.type in HANDLES
            ]
            # an unbound or revoked key is refused by rule (R10), and that record is the user's, who tried it
            request.user = request.actor
            name, kind = (bound[-1].data["identity"], bound[-1].data["kind"]) if bound else (me.id, me.kind)
            request.actor = ActorRef(name, kind, f"ed25519:{key_id}")
            request.signer = lambda record: keys.record_signature(private, record)
        return request

    def run(
        self, command: AnyCommand, options: Options | None = None, *, request: Request | None = None
    ) -> Outcome:
        """Decide a command and append what follows.

        Raises:
            UnavailableError: the clock jumped forward within this boot and nobody accepted it.
            UsageError: the password of the store would be recorded.
            ConflictError, InvalidError, UnavailableError: see `Handler.execute`.
        """
        from muniment.domain.commands import arguments

        request = request or self.request(options or Options())
        self.keep_secret(arguments(command), request.reason, request.key)
        if request.dry_run:
            return self.handler.execute(command, request)
        cache = self._clock()
        self._judge_clock(cache)
        outcome = self.handler.execute(command, request)
        cache.mark()
        return outcome

    def append(self, drafts: Sequence[Draft], condition: Condition | None = None) -> Appended:
        """Append observed facts, all or none; there is nothing to decide.

        Raises:
            UnavailableError: the clock jumped (see `run`), or the store could not be written.
            AppendConflict: the id of one was used for other content, or the condition is broken.
            InvalidError: one has over 65 535 bytes.
        """
        cache = self._clock()
        self._judge_clock(cache)
        appended = self.log.append(drafts, condition)
        cache.mark()
        return appended

    def keep_secret(self, *parts: Any) -> None:
        """A record is for ever, so a stage is not given the URL of the store by `--env`, say.

        A password of fewer characters than `SECRET` is looked for as a part of the whole URL only.

        Raises:
            UsageError: the password of the store stands in what would be recorded.
        """
        held = passwords(self.url)
        if not held:
            return
        said = " ".join(part if isinstance(part, str) else encode(part).decode() for part in parts)
        if self.url in said or any(len(word) >= SECRET and word in said for word in held):
            raise UsageError(
                "the password of the store stands in what would be recorded",
                code="session.secret",
                hint="leave it out; nothing was run or recorded",
            )

    def recorded(self, options: Options, name: str, **given: Any) -> Outcome | None:
        """What the idempotency key of the request stands for already, None if it is new (settled.md, 9).

        For services that do something before or after they decide: what was done once under a key is not done again.

        Args:
            name: the command's name, as `pack.verify`; `activation.` stands for each that begins so.
            given: arguments as this caller gave them; those it leaves to the service are not compared.

        Raises:
            ConflictError: the key was used by another command, or with other arguments.
        """
        from muniment.app.idempotency import key_item
        from muniment.domain import commands

        if not options.key:
            return None
        found = next(iter(self.log.read((key_item(options.key),), limit=1)), None)
        if found is None:
            return None
        command = msgspec.json.decode(found[1])["command"]
        ours = command["name"] == name or (name.endswith(".") and command["name"].startswith(name))
        if not ours or any(command["args"].get(key, value) != value for key, value in given.items()):
            raise ConflictError(
                f"idempotency key {options.key!r} was used by record {found[0]} for {command['name']} with other arguments",
                code="decision.key_reused",
                expected=f"{command['name']} {encode(command['args']).decode()}"[:300],
                found=f"{name} {encode(given).decode()}"[:300],
                hint="use a new key for a new command",
            )
        again: Any = msgspec.convert(
            {"type": command["name"], **command["args"]}, commands.COMMANDS[command["name"]]
        )
        return self.handler.execute(again, self.request(options))

    @property
    def clock_of(self) -> str:
        """Whose clock decides (settled.md, 1)."""
        return f"the server of {self.name}" if is_postgres(self.url) else "this host"

    def _clock(self) -> clock.ClockCache:
        return clock.ClockCache(home.writer_file(self.store_id), lambda: clock.read_host(self.log.now))

    def _judge_clock(self, cache: clock.ClockCache) -> None:
        """Before every append, not once a session: a stage may run for hours, and the clock jump meanwhile."""
        verdict = cache.check()
        if verdict.kind == "jump_refused":
            raise UnavailableError(
                f"the clock of {self.clock_of} jumped forward by {verdict.by_s} s since the last write",
                code="clock.jump_refused",
                hint="set the clock right, or: muniment clock accept --reason …",
                expected="at most 3600 s beyond the time since boot",
                found=f"{verdict.by_s} s",
            )
        if verdict.kind == "jump_observed":
            self.handler.record_fact(
                "clock.jump_observed/1", {"seconds": verdict.by_s}, self.request(Options())
            )
            cache.mark()  # seen and recorded: a command that fails now must not have it recorded again

    def accept_clock(self, options: Options) -> Outcome:
        """Record that a person accepted a jump, then take this moment as good.

        Raises:
            UnavailableError: recorded, but the writer's cache cannot be written, so the jump would be refused again.
        """
        from muniment.domain.admin import AcceptClock

        if (known := self.recorded(options, "clock.accept")) is not None:
            return known  # the jump it accepted is past; another one needs its own record
        cache = self._clock()
        outcome = self.handler.execute(AcceptClock(cache.check().by_s), self.request(options))
        if not options.dry_run and outcome.refusal is None:
            try:
                cache.accept()
            except OSError as error:
                raise UnavailableError(
                    str(error), code="clock.cache", hint="make the folder writable, then accept again"
                ) from error
        return outcome

    def work(self, *parts: str) -> Path:
        """A new private working folder.

        Raises:
            UnavailableError: disk full, no permission, or a file stands there.
        """
        path = self.folder.joinpath(WORK, *parts)
        with faults("create", path, "work"):
            make_private(path)
        return path


def folder_for(url: str | Path, store_id: str, base: Path | None = None) -> Path:
    """The folder with `work/`, `exports/` and the log's key of a store, for this user (decision 0009)."""
    return home.store_dir(store_id, base) if is_postgres(url) else folder_of(url).absolute()


def evidence_of(url: str | Path, connect: Connect | None = None, *, read_only: bool) -> EvidenceStore:
    """The evidence of a store: beside its log, or where `evidence=` in its URL or `MUNIMENT_EVIDENCE` says.

    Args:
        connect: lends a connection to the database of the log, if there is one.

    Raises:
        UsageError: no such place, or the database of another log.
        UnfitError, UnavailableError: see `store.evidence_open.open_evidence`.
    """
    if not is_postgres(url):
        own = folder_of(url).absolute()
        elsewhere = os.environ.get(VARIABLE, "")
        return open_evidence(elsewhere or own, own=not elsewhere, read_only=read_only)
    place = parse(str(url))
    chosen = evidence_url(str(url), place.evidence)
    if is_postgres(chosen) and parse(chosen)[:2] != place[:2]:
        raise UsageError(
            "evidence in PostgreSQL lies in the database and the schema of its log",
            code="evidence.url",
            hint="leave it out, or name a folder or an s3:// URL",
            expected=place.name,
            found=parse(chosen).name,
        )
    return open_evidence(chosen, connect=connect, schema=place.schema, name=place.name, read_only=read_only)


@contextmanager
def evidence_alone(url: str | Path) -> Iterator[EvidenceStore]:
    """The evidence, to be read, of a store whose log may be damaged: of the log nothing is opened.

    Raises:
        UnavailableError, DeniedError, NotFoundError: no server, no login, no such database.
        UsageError, UnfitError: see `evidence_of`.
    """
    if not is_postgres(url):
        yield evidence_of(url, read_only=True)
        return
    from muniment.store.postgres_pool import Connections

    with closing(Connections(parse(str(url)), read_only=True)) as pool:
        yield evidence_of(url, pool.connection, read_only=True)
