"""`store copy`: what is wrong at the source is named, and never becomes a right copy."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import copies
import pytest
from copies import KINDS, refused, unfinished
from muniment.app import copying
from muniment.app.session import Session
from muniment.domain.errors import (
    InvalidError,
    NotFoundError,
    WrongError,
)
from muniment.store.open import create_log, open_log


@KINDS
@pytest.mark.parametrize("at", [1, 16, 17, 40, 70])
def test_a_flipped_byte_is_named_by_its_position(source, place, kind, at, tmp_path):
    if kind == "postgres":
        copying.copy(source, place(kind, "spoiled"))
        source = place(kind, "spoiled")
    with copies.spoiling(source) as run:
        (body,) = run("SELECT body FROM records WHERE position = ?", at).fetchone()
        flipped = bytes(body[:-9]) + bytes([body[-9] ^ 1]) + bytes(body[-8:])
        run("UPDATE records SET body = ? WHERE position = ?", flipped, at)
    error = refused(WrongError, "copy.source", source, str(tmp_path / "target"))
    assert error.context["position"] == at
    if at > 1:
        unfinished(tmp_path / "target")
    assert at > 1 or not (tmp_path / "target").exists()


def test_a_changed_record_with_its_leaf_does_not_give_the_root(source, tmp_path):
    with copies.spoiling(source) as run:
        (body,) = run("SELECT body FROM records WHERE position = 66").fetchone()
        body = body.replace(b"HEALTHY", b"DEGRADE") if b"HEALTHY" in body else body[:-30] + b"0" + body[-29:]
        leaf = hashlib.sha256(b"\0" + body).digest()
        run("UPDATE records SET body = ?, leaf = ? WHERE position = 66", body, leaf)
    error = refused(WrongError, "copy.source", source, str(tmp_path / "target"))
    assert error.context["position"] == 65, "the subtree of 4 records that begins there"
    unfinished(tmp_path / "target")


@pytest.mark.parametrize("at", [1, 30, 70])
def test_a_missing_record_is_named_by_its_position(source, tmp_path, at):
    with copies.spoiling(source) as run:
        run("DELETE FROM records WHERE position = ?", at)
    error = refused(WrongError, "copy.source", source, str(tmp_path / "target"))
    assert error.context["position"] == at
    if at > 1:
        unfinished(tmp_path / "target")
    assert at > 1 or not (tmp_path / "target").exists()


def test_a_source_of_a_newer_schema_is_refused(source, tmp_path):
    with copies.spoiling(source) as run:
        run("PRAGMA user_version = 99")
    refused(InvalidError, "store.version", source, str(tmp_path / "target"))
    assert not (tmp_path / "target").exists()


def test_no_source_and_an_empty_one(source, tmp_path):
    refused(NotFoundError, "store.not_found", str(tmp_path / "none"), str(tmp_path / "target"))
    create_log(str(tmp_path / "empty")).close()
    refused(NotFoundError, "store.empty", str(tmp_path / "empty"), str(tmp_path / "target"))
    assert not (tmp_path / "target").exists()


@KINDS
def test_missing_evidence_is_told_and_leaves_the_copy_unfinished(source, place, kind):
    gone = copies.blob_path(source)
    kept = gone.read_bytes()
    gone.unlink()
    done = copying.copy(source, place(kind))
    assert (done.finished, done.exit_code) == (False, 7)
    assert {one.check for one in done.wrong} & {"evidence.present", "evidence.manifests"}
    assert all(one.position for one in done.wrong)
    unfinished(place(kind))
    gone.write_bytes(kept)
    again = copying.copy(source, place(kind))
    assert (again.exit_code, again.begun, again.files.copied) == (0, 70, 1)
    copies.sound(place(kind))


def test_as_it_is_a_store_with_a_gap_is_copied_and_never_exit_0(source, tmp_path):
    copies.blob_path(source).unlink()
    done = copying.copy(source, str(tmp_path / "target"), as_is=True)
    assert (done.finished, done.exit_code) == (True, 7)
    assert done.wrong
    with closing(open_log(tmp_path / "target")) as log:
        assert log.head() == done.head


@pytest.mark.parametrize("orphan", [False, True])
def test_damaged_evidence_is_told_and_not_brought_along(source, tmp_path, orphan):
    if orphan:
        with Session(source, write=True) as session:
            address = session.evidence.put(b"named by nobody").blake3
        path = Path(source) / "evidence" / address[:2] / address[2:]
        path.chmod(0o600)
    else:
        path = copies.blob_path(source, 3)
    path.write_bytes(b"rotten")
    done = copying.copy(source, str(tmp_path / "target"))
    assert (done.finished, done.exit_code) == (False, 7)
    assert done.files.missed
    assert not list((tmp_path / "target" / "evidence").rglob(path.name))


def test_a_changed_checkpoint_is_told_and_not_brought_along(source, tmp_path):
    path = Path(source) / "exports" / "checkpoint-2"
    path.write_bytes(path.read_bytes().replace(b"\n2\n", b"\n3\n"))
    done = copying.copy(source, str(tmp_path / "target"))
    assert [one.check for one in done.wrong] == ["exports.checkpoints"]
    assert (done.exit_code, done.checkpoints) == (7, [])
