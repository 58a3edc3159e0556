"""Packs: what is described, kept, compared, registered and verified, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import shop
from muniment.app import activating, building, keys, packing
from muniment.app.pack_manifest import MANIFEST
from muniment.app.session import Options
from muniment.domain import admin, build, release
from muniment.domain.errors import (
    ConflictError,
    InvalidError,
    MunimentError,
    NotFoundError,
    UnavailableError,
    UsageError,
    WrongError,
)

NONE = "sha256:" + "0" * 64


@pytest.fixture
def gated(here):
    with here.open() as s:
        here.gated(s)
        yield here, s


@pytest.fixture
def packed(here):
    with here.open() as s:
        yield here, s, here.pack(s)


@pytest.mark.parametrize(
    "kind", ["absent", "file", "empty", "symlink inside", "symlink itself", "fifo", "control"]
)
def test_a_folder_that_is_no_pack_records_nothing(gated, kind):
    here, s = gated
    folder = here.base / "tree"
    folder.mkdir()
    (folder / "f").write_text("x")
    if kind == "absent":
        folder = here.base / "none"
    elif kind == "file":
        folder /= "f"
    elif kind == "empty":
        (folder / "f").unlink()
    elif kind == "symlink inside":
        (folder / "passwd").symlink_to("/etc/passwd")
    elif kind == "symlink itself":
        (here.base / "link").symlink_to(folder)
        folder = here.base / "link"
    elif kind == "fifo":
        os.mkfifo(folder / "p")
    else:
        (folder / "a\x1bb").write_text("x")
    before = s.log.head().size
    with pytest.raises(MunimentError) as caught:
        packing.create(s, Options(), str(folder), build_id="b-1")
    assert caught.value.exit_code in (2, 10)
    assert before == s.log.head().size


@pytest.mark.parametrize(
    "more",
    [
        {"epoch": -1},
        {"reads": (2, 1)},
        {"reads": (0, -1)},
        {"writes": -1},
        {"compatibility": {"x": 1.5}},
        {"compiler": {"name": 1}},
        {"epoch": 2**60},
    ],
)
def test_a_manifest_that_does_not_fit(gated, more):
    here, s = gated
    before = s.log.head().size
    with pytest.raises(InvalidError):
        packing.create(s, Options(), str(here.source()), build_id="b-1", **more)
    assert before == s.log.head().size


def test_equal_bytes_give_one_pack_and_a_dry_run_keeps_nothing(gated):
    here, s = gated
    blobs = sorted(item.blake3 for item in s.evidence.iter())
    folder = here.base / "tree"
    folder.mkdir()
    (folder / "new").write_text("new")
    before = s.log.head().size
    dry, first = packing.create(s, Options(dry_run=True), str(folder), build_id="b-1")
    assert (0, before) == (dry.exit_code, s.log.head().size)
    assert blobs == sorted(item.blake3 for item in s.evidence.iter())
    (folder / "new").chmod(0o755)
    os.utime(folder / "new", (1, 1))
    (folder / MANIFEST).write_text("a manifest of another time")
    outcome, second = packing.create(s, Options(), str(folder), build_id="b-1")
    shop.must(outcome)
    assert first["runtime_pack_id"] == second["runtime_pack_id"]
    assert [f["path"] for f in second["files"]] == ["new"]
    refused, _ = packing.create(s, Options(), str(folder), build_id="b-1")
    shop.refused(refused, "build.compiled")


def test_outputs_of_a_stage_that_did_not_pass_make_no_pack(here):
    with here.open() as s:
        here.gated(s)
        staged = building.stage(
            s,
            Options(),
            build_id="b-1",
            name="compile",
            argv=["sh", "-c", "echo x > $0/x; exit 1", "{output}"],
        )
        assert staged.run.status == "FAIL"
        outcome, _ = packing.create(s, Options(), "{out.compile}", build_id="b-1")
        shop.refused(outcome, "build.stage_open")
        with pytest.raises(UsageError):
            packing.create(s, Options(), "{out.resolve}", build_id="b-1")


def test_a_repeated_create_key(gated):
    here, s = gated
    first, manifest = packing.create(s, shop.key("p"), str(here.source()), build_id="b-1")
    again, same = packing.create(s, shop.key("p"), str(here.source()), build_id="b-1")
    assert (first.positions, manifest) == (again.positions, same)
    with pytest.raises(ConflictError):
        packing.create(s, shop.key("p"), str(here.source("other")), build_id="b-1")
    with pytest.raises(ConflictError):
        packing.create(s, shop.key("p"), str(here.source()), build_id="b-1", epoch=3)


# -- reproduce -----------------------------------------------------------------------------------------------------


def test_reproduce_needs_one_source_and_a_pack(gated):
    here, s = gated
    for more in (
        {},
        {"folder": "x", "argv": ["true"]},
        {"argv": ["a\0"]},
        {"argv": ["true"], "timeout_s": 0},
    ):
        with pytest.raises(UsageError):
            packing.reproduce(s, Options(), build_id="b-1", **more)
    marker = here.base / "ran"
    outcome, second = packing.reproduce(s, Options(), build_id="b-1", argv=["touch", str(marker)])
    shop.refused(outcome, "build.not_compiled")
    assert ("", False) == (second, marker.exists())


@pytest.mark.parametrize("argv", [["false"], ["no-such-tool"], ["sh", "-c", "kill -9 $$"]])
def test_a_second_compile_that_did_not_end_well_says_nothing(here, argv):
    with here.open() as s:
        here.compiled(s)
        before = s.log.head().size
        with pytest.raises(UnavailableError) as caught:
            packing.reproduce(s, Options(), build_id="b-1", argv=argv)
        assert ("build.second_failed", 8, before) == (
            caught.value.code,
            caught.value.exit_code,
            s.log.head().size,
        )


def test_a_repeated_reproduce_key_compiles_once_and_a_dry_run_never(here):
    with here.open() as s:
        pack = here.compiled(s)
        count = here.base / "count"
        argv = ["sh", "-c", f"echo x >> {count}; cp -r $0/. $1", "{input}", "{output}"]
        before = s.log.head().size
        dry, _ = packing.reproduce(s, Options(dry_run=True), build_id="b-1", argv=argv)
        assert (0, before, False) == (dry.exit_code, s.log.head().size, count.exists())
        first, second = packing.reproduce(s, shop.key("re"), build_id="b-1", argv=argv)
        again, same = packing.reproduce(s, shop.key("re"), build_id="b-1", argv=argv)
        assert (pack, pack, first.positions) == (second, same, again.positions)
        assert "x\n" == count.read_text()
        here.started(s, "b-2")
        with pytest.raises(ConflictError):
            packing.reproduce(s, shop.key("re"), build_id="b-2", argv=argv)


def test_a_declared_variable_reaches_the_second_compile(here):
    with here.open() as s:
        here.gated(s)
        argv = ["sh", "-c", "echo $LEVEL > $0/level", "{output}"]
        env = {"LEVEL": "9"}
        shop.must(building.stage(s, Options(), build_id="b-1", name="compile", argv=argv, env=env).finished)
        shop.must(packing.create(s, Options(), "{out.compile}", build_id="b-1")[0])
        outcome, _ = packing.reproduce(s, Options(), build_id="b-1", argv=argv, env=env)
        assert outcome.event("build.reproduced/1")["equal"] is True


# -- register and verify -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["register", "verify", "manifest_of"])
@pytest.mark.parametrize("pack", ["", "p", NONE[:-1], NONE.upper(), "sha256:" + "g" * 64, NONE])
def test_packs_nobody_compiled(here, call, pack):
    with here.open() as s:
        with pytest.raises(NotFoundError if pack == NONE else UsageError):
            getattr(packing, call)(s, *(() if call == "manifest_of" else (Options(),)), pack)
        assert s.log.head().size == 2


def test_a_pack_of_a_rejected_build_is_registered_and_not_admitted(here):
    with here.open() as s:
        pack = here.compiled(s)
        shop.must(s.run(build.Finish("b-1")))  # never reproduced
        outcome, _ = packing.register(s, Options(), pack)
        assert outcome.event("pack.admitted/1") is None


def test_a_pack_that_needs_a_signature(tmp_path, monkeypatch):
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    here = shop.Shop(tmp_path)
    here.init("regulated")
    with here.open() as s:
        keys.create_key("builder", s.keys)
        private = keys.load_key("builder", s.keys)
        made = {}
        for name, signed in (("b-1", ""), ("b-2", "builder")):
            made[name] = here.compiled(s, name, name, sign_with=signed)
            shop.must(packing.reproduce(s, Options(), build_id=name, argv=shop.COPY)[0])
            shop.must(s.run(build.Finish(name)))
        outcome, _ = packing.register(s, Options(), made["b-1"])
        assert outcome.event("pack.admitted/1") is None, "nobody signed"
        assert [] == packing.signers(s, packing.manifest_of(s, made["b-2"])), (
            "an unbound key counts for nobody"
        )
        shop.must(
            s.run(admin.AddIdentity("builder", "service", keys.key_id(private), keys.public_key_b64(private)))
        )
        assert [keys.key_id(private)] == packing.signers(s, packing.manifest_of(s, made["b-2"]))
        assert packing.register(s, Options(), made["b-2"])[0].event("pack.admitted/1") is not None
        shop.must(s.run(admin.RevokeKey(keys.key_id(private)), Options(sign="builder")))
        assert [] == packing.signers(s, packing.manifest_of(s, made["b-2"]))


@pytest.mark.parametrize("kind", ["flip", "truncate", "grow", "missing", "symlink", "folder"])
def test_a_damaged_blob_is_a_recorded_fail(packed, kind):
    here, s, pack = packed
    blob = shop.blob_of(s, pack)
    data = blob.read_bytes()
    blob.chmod(0o600)
    if kind == "flip":
        shop.damage(blob)
    elif kind in ("truncate", "grow"):
        blob.write_bytes(data[:-1] if kind == "truncate" else data + b"x")
    else:
        blob.unlink()
        if kind == "symlink":
            blob.symlink_to("/etc/passwd")
        elif kind == "folder":
            blob.mkdir()
    outcome, checks = packing.verify(s, Options(), pack)
    assert "FAIL" == shop.must(outcome).event("pack.reverified/1")["verdict"]
    bad = [check for check in checks if check.verdict == "fail"]
    assert [1, True] == [len(bad), bool(bad[0].attack)]
    here.declared(s)
    shop.must(s.run(release.Create("r-1", pack, [release.Stage([shop.EU], 100_000, 0)])))
    for command in (release.Start("r-1"), release.Promote("r-1", "")):
        s.run(command)  # what verifies on the target may go on until there (R2); the bytes decide
    result = activating.activate(s, Options(), shop.EU, str(here.target()))
    assert result.exit_code in (6, 7)
    assert not (here.target() / "active").exists()


def test_a_damaged_manifest_is_a_recorded_fail(packed):
    _, s, pack = packed
    fact = packing.compiled(s, pack)
    shop.damage(s.evidence.path(fact.evidence[0]["blake3"]))
    outcome, checks = packing.verify(s, Options(), pack)
    assert ("FAIL", "manifest.valid") == (outcome.event("pack.reverified/1")["verdict"], checks[0].id)
    with pytest.raises(WrongError):
        packing.register(s, Options(), pack)


def test_bytes_that_nobody_could_read_are_no_fail(packed, monkeypatch):
    """Seven and eight are never merged: FAIL on record says that somebody looked."""
    _, s, pack = packed
    blob, before = shop.blob_of(s, pack), s.log.head().size
    real = os.open

    def refuse(path, *rest, **more):
        if Path(path) == blob:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UnavailableError) as caught:
        packing.verify(s, Options(), pack)
    assert ("pack.unreadable", 8, before) == (caught.value.code, caught.value.exit_code, s.log.head().size)
    other = packing.manifest_of(s, pack)["files"][1]["blake3"]
    monkeypatch.undo()
    shop.damage(s.evidence.path(other))
    monkeypatch.setattr(os, "open", refuse)
    outcome, _ = packing.verify(s, Options(), pack)
    assert "FAIL" == outcome.event("pack.reverified/1")["verdict"], "7 wins when both occur"


def test_repeated_keys_of_register_and_verify(packed):
    _, s, pack = packed
    first, checks = packing.verify(s, shop.key("v"), pack)
    shop.damage(shop.blob_of(s, pack))
    again, same = packing.verify(s, shop.key("v"), pack)
    assert (first.positions, checks) == (again.positions, same), "what was recorded, not what is now"
    outcome, _ = packing.register(s, shop.key("r"), pack)
    repeated, _ = packing.register(s, shop.key("r"), pack)
    assert outcome.positions == repeated.positions
    for call in (packing.register, packing.verify):
        with pytest.raises(ConflictError):
            call(s, shop.key("v" if call is packing.register else "r"), pack)


@pytest.mark.parametrize(("good", "bad", "rows"), [(3, 0, 3), (300, 0, 101), (300, 2, 101), (0, 300, 101)])
def test_checks_in_a_record_keep_every_kind(good, bad, rows):
    checks = [packing.Check("file", "pass", "", "")] * good + [packing.Check("file", "fail", "", "")] * bad
    kept = packing.as_data(checks)
    assert rows == len(kept)
    assert min(bad, 100) <= sum(row["verdict"] == "fail" for row in kept)
    assert bool(bad) == any(row["verdict"] == "fail" for row in kept)
