"""What the demo needs besides commands: its content, the words of a command, and a copy of a store with one byte flipped."""

from __future__ import annotations

import shlex
import shutil
from contextlib import closing
from importlib import resources
from pathlib import Path
from string import Template

from muniment.app.session import EXPORTS, Session, evidence_of
from muniment.domain.errors import ConflictError, NotFoundError
from muniment.store.open import create_log, folder_of, name_of, open_log
from muniment.store.postgres_url import is_postgres, parse

FLIPPED = b"hold for audit"  # the reason of the pin: a text that only a record's bytes hold


def content() -> Path:
    """The folder of the demo's content, as installed."""
    return Path(str(resources.files("muniment.ops").joinpath("demo")))


def places(url: str) -> tuple[Path, Path]:
    """Beside a demo's store, here if it is no folder: its target folder, and the folder of the copy that gets damaged.

    Raises:
        ConflictError: one of them exists, or the store does; the demo overwrites nothing.
        MunimentError: the server cannot be asked, see `store.open.open_log`.
    """
    server = is_postgres(url)
    store = Path(parse(url).schema if server else folder_of(url)).absolute()
    edge, copy = (store.with_name(f"{store.name}-{what}") for what in ("edge", "tampered"))
    taken = [str(path) for path in (edge, copy) if path.exists()]
    if _taken(url) if server else store.exists():
        taken.append(name_of(url))
    if taken:
        raise ConflictError(
            f"{taken[0]} exists",
            code="demo.exists",
            hint="name another: muniment demo --store "
            + ("postgresql://…?schema=NAME" if server else "NAME"),
        )
    return edge, copy


def _taken(url: str) -> bool:
    try:
        with closing(open_log(url, read_only=True)) as log:
            return bool(log.head().size)
    except NotFoundError:
        return False


def words(command: str, edge: Path) -> list[str]:
    """The words of a story's command with its two places filled in."""
    return shlex.split(
        Template(command).safe_substitute(DEMO=shlex.quote(str(content())), EDGE=shlex.quote(str(edge)))
    )


def flip_one_byte(url: str, copy: Path) -> tuple[Path, int]:
    """Copy a store into a folder, byte for byte, and change one bit in one record there; return the file and the offset.

    Raises:
        NotFoundError: no record of this store holds the story's pin.
        MunimentError: see `Session` and `Log.adopt`.
    """
    with Session(url) as session:
        with closing(create_log(copy, session.log.kind)) as log:
            for page in session.log.pages():
                log.adopt([body for _, body in page])
        evidence = evidence_of(copy, read_only=False)
        for stored in session.evidence.iter():
            with session.evidence.open(stored.blake3) as blob:
                evidence.put(blob)
        shutil.copytree(session.folder / EXPORTS, copy / EXPORTS)
    path = copy / "log.db"
    data = bytearray(path.read_bytes())
    at = data.find(FLIPPED)
    if at < 0:
        raise NotFoundError(
            "no record of this store holds the story's pin", code="demo.no_pin", hint="muniment demo"
        )
    data[at] ^= 0x20
    path.write_bytes(data)
    return path, at
