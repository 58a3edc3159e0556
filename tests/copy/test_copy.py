"""`store copy`: everything is kept, in every direction."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import copies
from copies import KINDS
from muniment.app import copying, keys
from muniment.app.session import Session
from muniment.store import checkpoint
from muniment.store.open import create_log, open_log


@KINDS
def test_everything_is_kept_there_and_back(source, place, kind, tmp_path):
    there, back = place(kind), str(tmp_path / "back")
    before = copies.facts(source)
    for one, two in ((source, there), (there, back)):
        done = copying.copy(one, two)
        assert (done.exit_code, done.begun, done.later, done.wrong) == (0, 0, 0, [])
        assert copies.facts(two) == before
        copies.sound(two)
    assert (len(before["exports"]), len(before["evidence"])) == (1, done.files.files)
    copies.write_one(there)
    copies.sound(there)
    assert copies.facts(back) == copies.facts(source), "a copy is on its own"


def test_from_schema_to_schema(source, place):
    one, two = place("postgres", "one"), place("postgres", "two")
    copying.copy(source, one)
    copying.copy(one, two)
    assert copies.facts(one) == copies.facts(two)


@KINDS
def test_an_opaque_log_keeps_its_instant(source, place, kind, tmp_path):
    with Session(source) as session:
        birth = next(body for _, body in session.log.read(limit=1)).replace(
            b'"kind":"records"', b'"kind":"opaque"'
        )
    one = str(tmp_path / "opaque")
    with closing(create_log(one, "opaque")) as log:
        log.adopt([birth], recorded_at="2036-01-01T00:00:00.000000Z")
        log.adopt(
            [b'{"type":"e","tags":["a"],"n":%d}' % n for n in range(40)],
            recorded_at="2036-01-02T00:00:00.000000Z",
        )
        head = log.head()
    # its birth was that of another log, so this one is wrong in itself, and stays so
    done = copying.copy(one, place(kind), as_is=True)
    with closing(open_log(place(kind))) as log:
        assert (log.kind, log.head()) == ("opaque", head)
    assert done.head.recorded_at == "2036-01-02T00:00:00.000000Z"


def test_no_private_key_comes_along(source, tmp_path):
    copying.copy(source, str(tmp_path / "target"))
    secret = (Path(source) / "keys" / "log.pem").read_bytes().splitlines()[1]
    files = [path for path in (tmp_path / "target").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret in path.read_bytes() or path.suffix == ".pem"]


def test_evidence_in_one_place_is_left_where_it_is(source, tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    (Path(source) / "evidence").rename(tmp_path / "evidence")
    shared.mkdir()
    (tmp_path / "evidence").rename(shared / "evidence")
    monkeypatch.setenv("MUNIMENT_EVIDENCE", str(shared))
    done = copying.copy(source, str(tmp_path / "target"))
    assert (done.shared, done.files.copied, done.exit_code) == (True, 0, 0)
    assert not (tmp_path / "target" / "evidence").exists()


def test_what_comes_meanwhile_is_left_out_and_told(source, tmp_path):
    before = copies.facts(source)
    appended = []

    def progress(what, done, whole):
        if not appended:
            appended.append(copies.write_one(source))

    done = copying.copy(source, str(tmp_path / "target"), progress=progress)
    assert (done.later, done.exit_code) == (1, 0)
    after = copies.facts(str(tmp_path / "target"))
    assert before.pop("evidence").items() <= after.pop("evidence").items()
    assert after == before


def test_a_checkpoint_of_later_records_stays(source, tmp_path):
    target, signed = str(tmp_path / "target"), tmp_path / "source" / "exports" / "checkpoint-71"

    def progress(what, done, whole):
        if signed.exists():
            return
        copies.write_one(source)
        with Session(source) as session:
            head, key = session.log.head(), keys.load_key("log", Path(source) / "keys")
            origin = f"muniment/{session.store_id}"
            signed.write_bytes(checkpoint.sign(checkpoint.Checkpoint(origin, head.size, head.root), key))

    done = copying.copy(source, target, progress=progress)
    assert (done.exit_code, done.checkpoints) == (0, ["checkpoint-2"])
    copies.sound(target)
    copies.sound(source)
    assert copying.copy(source, target + "2").checkpoints == ["checkpoint-2", "checkpoint-71"]
