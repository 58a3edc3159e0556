"""`store copy`: what is there already is never written over; what was cut goes on."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import copies
import psycopg
import pytest
from copies import KINDS, refused, unfinished
from muniment.app import copying
from muniment.domain.errors import (
    ConflictError,
    DeniedError,
    NotFoundError,
    UnavailableError,
    UsageError,
    WrongError,
)
from muniment.store import copy as machinery
from muniment.store.copy_place import begin
from muniment.store.open import create_log, open_log
from muniment.store.sqlite_log import SqliteLog
from psycopg import sql


@KINDS
def test_a_store_is_never_copied_over(source, place, kind):
    copying.copy(source, place(kind))
    copies.write_one(place(kind))
    before = copies.facts(place(kind))
    refused(ConflictError, "store.exists", source, place(kind))
    refused(ConflictError, "store.exists", source, place(kind), as_is=True)
    assert copies.facts(place(kind)) == before


def test_a_place_with_something_else_is_refused(source, tmp_path, pg_url):
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "notes.txt").write_text("mine")
    refused(ConflictError, "store.exists", source, str(tmp_path / "busy"))
    assert [path.name for path in (tmp_path / "busy").iterdir()] == ["notes.txt"]
    (tmp_path / "file").write_text("mine")
    refused(UsageError, "store.folder", source, str(tmp_path / "file"))
    with psycopg.connect(pg_url, autocommit=True) as link:
        link.execute("CREATE SCHEMA busy")
        link.execute("CREATE TABLE busy.mine (a int)")
    refused(ConflictError, "store.exists", source, copies.url_in("postgres", tmp_path, pg_url, "busy"))


@pytest.mark.parametrize("name", ["", "log.db", "evidence", "exports", "staging"])
def test_a_symlink_in_the_target_leads_nowhere(source, tmp_path, name):
    trap, target = tmp_path / "trap", tmp_path / "target"
    trap.mkdir()
    if name:
        target.mkdir()
    (target / name).symlink_to(trap)
    refused(UsageError, "store.symlink", source, str(target))
    assert not list(trap.iterdir())


def test_a_checkpoint_that_is_a_symlink_is_not_followed(source, tmp_path):
    path = Path(source) / "exports" / "checkpoint-2"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnavailableError):
        copying.copy(source, str(tmp_path / "target"))
    unfinished(tmp_path / "target")


@pytest.mark.parametrize("pair", [("source", "source"), ("source", "source/in"), ("source", "link")])
def test_a_store_is_not_copied_into_itself(source, tmp_path, pair):
    (tmp_path / "link").symlink_to(tmp_path / "source")
    refused(UsageError, "copy.same", *(str(tmp_path / name) for name in pair))
    copies.sound(source)


@KINDS
def test_an_unfinished_copy_of_another_log_is_refused(source, built, place, kind, tmp_path):
    with closing(begin(place(kind), "records")) as log:
        with closing(open_log(source)) as mine:
            bodies = [body for _, body in mine.read(limit=20)]
        bodies[11] = bodies[11].replace(b'"reason":"', b'"reason":"x')
        log.adopt(bodies)
    error = refused(ConflictError, "copy.other", source, place(kind))
    assert error.context["position"] == 12
    unfinished(place(kind))


@KINDS
def test_an_unfinished_copy_that_is_ahead_is_refused(source, place, kind, tmp_path):
    ahead = copies.clone(Path(source), tmp_path / "ahead")
    for n in range(3):
        copies.write_one(ahead, f"more{n}")
    copies.blob_path(ahead).unlink()
    assert not copying.copy(ahead, place(kind)).finished
    error = refused(ConflictError, "copy.other", source, place(kind))
    assert (error.context["expected"], error.context["found"]) == ("at most 70 records", "73 records")
    unfinished(place(kind))


@KINDS
def test_an_unfinished_copy_of_another_kind_is_refused(source, place, kind):
    begin(place(kind), "opaque").close()
    refused(WrongError, "store.kind", source, place(kind))


@KINDS
def test_a_finished_log_is_no_unfinished_one_and_neither_is_the_other(source, place, kind):
    begin(place(kind), "records").close()
    unfinished(place(kind))
    with pytest.raises(ConflictError):
        create_log(place(kind))
    refused(UnavailableError, "store.unfinished", place(kind), str(Path(source).parent / "other"))


def test_a_role_that_may_create_nothing_is_refused(source, postgres, pg_url, tmp_path):
    name = f"nobody_{os.urandom(4).hex()}"
    with psycopg.connect(pg_url, autocommit=True) as link:
        link.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
    try:
        bare = copies.url_in("postgres", tmp_path, pg_url, "target")
        as_role = bare + f"&options=-c%20role%3D{name}"
        refused(DeniedError, "store.rights", source, as_role)
        with pytest.raises(NotFoundError):
            open_log(bare)
    finally:
        postgres.execute(f"DROP ROLE {name}")


def test_an_empty_store_that_a_migration_left_is_as_good_as_none(source, place, postgres, pg_url):
    for one in ("target", "denied"):
        create_log(place("postgres", one)).close()
    name = f"other_{os.urandom(4).hex()}"
    with psycopg.connect(pg_url, autocommit=True) as link:
        role = sql.Identifier(name)
        link.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        link.execute(sql.SQL("GRANT USAGE ON SCHEMA denied TO {}").format(role))
        link.execute(sql.SQL("GRANT SELECT, UPDATE ON denied.head TO {}").format(role))
        link.execute(
            sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(link.info.dbname), role)
        )
    try:
        refused(
            DeniedError, "store.rights", source, place("postgres", "denied") + f"&options=-c%20role%3D{name}"
        )
        with closing(open_log(place("postgres"))) as log:
            assert log.head().size == 0
        assert copying.copy(source, place("postgres")).exit_code == 0
        assert copies.facts(source) == copies.facts(place("postgres"))
    finally:
        with psycopg.connect(pg_url, autocommit=True) as link:
            link.execute(sql.SQL("DROP OWNED BY {}").format(role))
        postgres.execute(f"DROP ROLE {name}")


# --- cut


class Cut(BaseException):
    """The program ends here."""


@KINDS
def test_a_copy_that_is_cut_again_and_again_comes_to_its_end(source, place, kind):
    before, steps, cuts = copies.facts(source), [0], 0
    while True:
        steps[0] = 2  # calls that each run survives

        def progress(what, done, whole):
            steps[0] -= 1
            if not steps[0]:
                raise Cut

        try:
            done = copying.copy(source, place(kind), progress=progress if cuts < 6 else copying.quiet)
        except Cut:
            cuts += 1
            unfinished(place(kind))
        else:
            break
    assert (cuts, done.exit_code) == (6, 0)
    assert done.begun
    assert copies.facts(place(kind)) == before
    copies.sound(place(kind))


def test_a_copy_that_was_cut_goes_on_to_the_head_of_today(source, tmp_path):
    def progress(what, done, whole):
        raise Cut

    with pytest.raises(Cut):
        copying.copy(source, str(tmp_path / "target"), progress=progress)
    copies.write_one(source)
    done = copying.copy(source, str(tmp_path / "target"))
    assert (done.begun, done.head.size) == (16, 71)
    assert copies.facts(source) == copies.facts(str(tmp_path / "target"))


@KINDS
def test_two_copies_at_once_make_one_whole_store_or_say_so(source, place, kind, monkeypatch):
    monkeypatch.setattr(machinery, "BATCH", 2)
    url, ended = place(kind), []
    children = [
        multiprocessing.get_context("fork").Process(target=_one_of_many, args=(source, url)) for _ in range(3)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        ended.append(child.exitcode)
    assert set(ended) <= {0, 5, 8}, ended
    if 0 not in ended:  # each met another one's batch
        copying.copy(source, url)
    assert copies.facts(source) == copies.facts(url)
    copies.sound(url)


@KINDS
def test_a_batch_goes_in_where_it_belongs_or_not_at_all(source, place, kind):
    def progress(what, done, whole):
        with closing(open_log(source)) as log, closing(begin(place(kind), "records")) as other:
            other.adopt([body for _, body in log.read(after=done, limit=3)], after=done)

    refused(ConflictError, "store.size", source, place(kind), progress=progress)
    assert copying.copy(source, place(kind)).begun == 19
    assert copies.facts(source) == copies.facts(place(kind))


def _one_of_many(source, url):
    try:
        code = copying.copy(source, url).exit_code
    except (ConflictError, UnavailableError) as error:
        code = error.exit_code
    os._exit(code)


def test_a_full_disk_leaves_it_unfinished_and_it_goes_on(source, tmp_path):
    target = tmp_path / "target"
    command = f"ulimit -f 60; exec {Path(sys.executable).parent}/muniment store copy {source} {target}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 8, done.stderr
    if target.exists():
        with pytest.raises((UnavailableError, NotFoundError)):
            open_log(target)
    assert copying.copy(source, str(target)).exit_code == 0
    copies.sound(str(target))


def test_the_mark_is_set_last(source, tmp_path, monkeypatch):
    order = []
    finish = SqliteLog.finish
    monkeypatch.setattr(SqliteLog, "finish", lambda log: (order.append("finish"), finish(log)))
    copying.copy(source, str(tmp_path / "t"), progress=lambda what, done, whole: order.append(what))
    assert order[-1] == "finish"
    assert list(dict.fromkeys(order)) == ["records", "bytes", "verified", "finish"]
