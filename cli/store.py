"""`store copy`, `store backup`, `store restore`: a whole store to another place; its other verbs are next door."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from muniment.cli.framework import Noun
from muniment.cli.progress import Progress, size
from muniment.cli.results import Result
from muniment.cli.settings import Settings
from muniment.cli.store_migrate import maintain, migrate
from muniment.cli.text import counted
from muniment.store.postgres_url import is_postgres

if TYPE_CHECKING:
    from muniment.app.copying import Copied, Inherited
    from muniment.store.copy_evidence import Progress as Told

store = Noun(
    "store",
    "Whole stores: copy, backup, restore, migrate.",
    ["muniment store backup /backups/2026-11-21", "muniment store copy .muniment postgresql://db/muniment"],
)
store.add_command(migrate)
store.add_command(maintain)
_as_is = click.option(
    "--as-is",
    is_flag=True,
    help="Go through although something is wrong at the source (a missing file); exit 7 all the same.",
)
_WORDS = {
    "records": ("copied", "records"),
    "bytes": ("of evidence copied", ""),
    "verified": ("verified", "records"),
}


@store.verb(
    "copy",
    uses=("fields",),
    examples=[
        "muniment store copy .muniment 'postgresql://db/muniment?schema=atlas'",
        "muniment store copy postgresql://db/muniment /srv/atlas",
    ],
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@_as_is
def copy(settings: Settings, source: str, target: str, as_is: bool) -> Result:
    """Copy a store from one place to another: records, evidence, exported checkpoints.

    TO is a place where nothing is, or a copy that was cut, which goes on. Every byte, position, root and time stays as it is,
    and the copy is verified before it becomes a store. Private keys stay where they are. The two are one log: from here on,
    write to one of them only.
    """
    from muniment.app import copying

    with _progress(settings) as told:
        done = copying.copy(source, target, as_is=as_is, progress=told)
    lines = _lines("copied", done)
    lines.append("  write    to one of the two only: they are one log, and two that go on apart are a fork")
    return _result("store.copy/1", done, {}, lines, f"muniment verify store --store {_shown(target)}")


@store.verb(
    "backup", uses=("fields",), examples=["muniment store backup /backups/2026-11-21 --store .muniment"]
)
@click.argument("target", metavar="TO")
@_as_is
def backup(settings: Settings, target: str, as_is: bool) -> Result:
    """Back the store up into a folder, while others write to it.

    The backup holds the log up to one head, every file its records name, and the exported checkpoints; never a private key. It is
    verified, then closed by backup.json: without that it is no backup, and the same command goes on.
    """
    import time

    from muniment.app import backup as backups

    with _progress(settings) as told:
        done, manifest = backups.backup(
            settings.url, target, as_is=as_is, now=time.time_ns() // 1000, progress=told
        )
    more = {"made_at": manifest.made_at if manifest else "", "digest": manifest.digest if manifest else ""}
    lines = _lines("backed up", done)
    lines += [f"  manifest backup.json, sha256 {manifest.digest}"] if manifest else []
    return _result("store.backup/1", done, more, lines, f"muniment store restore {_shown(target)} --check")


@store.verb(
    "restore",
    uses=("fields",),
    examples=[
        "muniment store restore /backups/2026-11-21 .muniment",
        "muniment store restore /backups/2026-11-21 --check",
    ],
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="[TO]", required=False)
@click.option("--check", is_flag=True, help="Look through the backup, and make nothing.")
@_as_is
def restore(settings: Settings, source: str, target: str | None, check: bool, as_is: bool) -> Result:
    """Make a store of a backup: in a folder or in PostgreSQL, never over a store.

    The backup is looked through first, as `verify store` does; of a damaged one nothing is made. Put the private key of the log
    back by hand: it is in no backup.
    """
    from muniment.app import backup as backups
    from muniment.domain.errors import UsageError

    if check == (target is not None):
        raise UsageError(
            "--check makes nothing, so it takes no TO" if check else "where to?",
            code="cli.argument",
            hint="muniment store restore --help",
        )
    with _progress(settings) as told:
        if target is None:
            return _checked(backups.check(source, as_is=as_is, progress=told), source)
        done, warning = backups.restore(source, target, as_is=as_is, progress=told)
    return _result(
        "store.restore/1",
        done,
        {},
        _lines("restored", done),
        f"muniment verify store --store {_shown(target)}",
        warning,
    )


def _checked(found: Any, source: str) -> Result:
    manifest, wrong = found
    data = {
        "store_id": manifest.store_id,
        "kind": manifest.kind,
        "size": manifest.size,
        "root": manifest.root,
        "recorded_at": manifest.recorded_at,
        "made_at": manifest.made_at,
        "muniment": manifest.muniment,
        "evidence": {"files": manifest.evidence.files, "bytes": manifest.evidence.bytes},
        "checkpoints": list(manifest.exports),
        "wrong": _wrong(wrong),
    }
    word = "WRONG" if wrong else "sound"
    lines = [
        f"{word}  backup of store {manifest.store_id}, {counted(manifest.size, 'record')}, {manifest.made_at}",
        *_findings(wrong),
        f"  root     {manifest.root}",
    ]
    return Result(
        "store.restore.check/1",
        data,
        manifest.size,
        lines,
        next=f"muniment store restore {shlex.quote(source)} TO",
        brief=manifest.root,
        exit_code=7 if wrong else 0,
    )


def _result(
    schema: str, done: Copied, more: dict[str, Any], lines: list[str], next_: str, note: str = ""
) -> Result:
    data = {
        "store_id": done.store_id,
        "kind": done.kind,
        "from": done.source,
        "to": done.target,
        "size": done.head.size,
        "root": done.head.root.hex(),
        "recorded_at": done.head.recorded_at,
        "begun": done.begun,
        "later": done.later,
        "evidence": {
            "files": done.files.files,
            "bytes": done.files.bytes,
            "copied": done.files.copied,
            "shared": done.shared,
        },
        "checkpoints": done.checkpoints,
        "wrong": _wrong(done.wrong),
        "finished": done.finished,
        **more,
    }
    return Result(
        schema,
        data,
        done.head.size,
        lines,
        next=next_
        if done.finished
        else "bring back what is missing and give the command again, or add --as-is",
        brief=done.head.root.hex(),
        notes=[note] if note else [],
        exit_code=done.exit_code,
    )


def _lines(word: str, done: Copied) -> list[str]:
    first = word if done.finished else f"NOT {word}, unfinished:"
    out = [f"{first}  store {done.store_id}, {counted(done.head.size, 'record')}"]
    out += _findings(done.wrong)
    out += [f"  from     {done.source}", f"  to       {done.target}"]
    out += [f"  went on  from record #{done.begun} of a copy that was cut"] if done.begun else []
    if done.shared:
        out.append("  evidence both stores keep it in one place; nothing was copied")
    else:
        files = done.files
        out.append(
            f"  evidence {counted(files.files, 'file')}, {size(files.bytes)}, {files.copied} of them copied now"
        )
    out.append(f"  exported {counted(len(done.checkpoints), 'checkpoint')}; private keys are never copied")
    if done.later:
        out.append(
            f"  later    {counted(done.later, 'record')} came to the source meanwhile: not in the copy"
        )
    return [*out, f"  root     {done.head.root.hex()}"]


def _findings(wrong: list[Inherited]) -> list[str]:
    out = []
    for one in wrong:
        where = " ".join(filter(None, [f"#{one.position}" if one.position else "", one.field]))
        out.append(f"  wrong    {one.check} {where}: expected {one.expected}, found {one.found}")
    return out


def _wrong(wrong: list[Inherited]) -> list[dict[str, Any]]:
    return [one._asdict() for one in wrong]


def _shown(url: str) -> str:
    """A place for a command line; the URL of a server may hold a secret."""
    return "URL" if is_postgres(url) else shlex.quote(url)


@contextmanager
def _progress(settings: Settings) -> Iterator[Told]:
    """One line for each kind of thing that is counted."""
    bars: dict[str, Progress] = {}

    def told(what: str, done: int, whole: int) -> None:
        if what not in bars:
            for bar in bars.values():
                bar.close()
            word, unit = _WORDS[what]
            bars[what] = settings.progress(word, whole)
            bars[what].unit = unit
        bars[what](done)

    try:
        yield told
    finally:
        for bar in bars.values():
            bar.close()
