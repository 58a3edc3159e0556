"""Sessions on a disk that is full or read-only: nothing by half, and everything works after."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import shop
from muniment.app import activating, building, intaking
from muniment.app.session import Options
from muniment.domain.errors import MunimentError


@contextmanager
def full(limit: int):
    """No file of this process may grow past `limit` bytes: EFBIG, which we answer as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def unavailable(call):
    with pytest.raises(MunimentError) as caught:
        call()
    assert caught.value.exit_code == 8, (caught.value.code, caught.value.message)


def test_a_full_disk_accepts_nothing_by_half_and_everything_works_after(here):
    big = here.base / "big"
    big.mkdir()
    (big / "data").write_bytes(os.urandom(300_000))
    with here.open() as s:
        pack = here.pack(s)
        here.declared(s)
        here.promoted(s, "r-1", pack)
        here.started(s, "b-9", "9")
    with here.open() as s:
        before = s.log.head().size
        with full(100_000):
            unavailable(lambda: intaking.add(s, str(big), Options()))
        assert before == s.log.head().size
        shop.must(intaking.add(s, str(big), Options())[0])
    source = str(here.source("new"))
    with here.open() as s:
        before = s.log.head().size
        with full(1):
            unavailable(lambda: shop.declare(s, "prod/canary"))
            unavailable(lambda: intaking.add(s, source, Options()))
            unavailable(
                lambda: building.stage(s, Options(), build_id="b-9", name="ingest", argv=["echo", "x"])
            )
            unavailable(lambda: activating.activate(s, Options(), shop.EU, str(here.target())))
        assert before == s.log.head().size
    with here.open() as s:
        shop.sound(s)
        shop.must(shop.declare(s, "prod/canary"))
        assert (
            building.stage(s, Options(), build_id="b-9", name="ingest", argv=["echo", "x"]).run.status
            == "PASS"
        )
        assert activating.activate(s, Options(), shop.EU, str(here.target())).exit_code == 0


def test_a_disk_that_fills_up_while_a_stage_runs(here):
    argv = ["sh", "-c", "head -c 300000 /dev/zero > $0/big", "{output}"]
    with here.open() as s:
        here.started(s)
        with full(200_000):
            staged = building.stage(s, Options(), build_id="b-1", name="ingest", argv=argv)
        assert staged.finished is not None
        assert staged.run.status != "PASS", "the stage itself ran into the limit"
        shop.sound(s)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("room", [40, 72, 96, 128, 192, 256])
def test_a_tiny_disk_at_every_step(tmp_path, room):
    """A tmpfs of that many KiB: the golden path runs until it is full; what was recorded is whole."""
    script = f"""
import importlib.util, os, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("shop", {str(Path(__file__).parents[1] / "shop.py")!r})
shop = importlib.util.module_from_spec(spec); spec.loader.exec_module(shop)
from muniment.domain.errors import MunimentError
base = Path(sys.argv[1])
here = shop.Shop(base / "disk")
(base / "disk" / "in").symlink_to(base / "in"); (base / "in").mkdir()
try:
    here.init()
    with here.open() as s:
        here.two(s)
    print("fitted")
except MunimentError as error:
    print(error.exit_code, error.code, error.message)
(base / "disk" / "room").unlink(missing_ok=True)
os.system(f"mount -o remount,size=16m {{base / 'disk'}}")
try:
    here.init()
except MunimentError as error:
    assert error.code == "store.exists", error
with here.open() as s:
    shop.sound(s)
    here.pack(s, "after", "after")
    shop.sound(s)
"""
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").mkdir()
    run = tmp_path / "run.py"
    run.write_text(script)
    command = f"mount -t tmpfs -o size={room}k tmpfs {tmp_path}/disk && {sys.executable} {run} {tmp_path}"
    env = {**os.environ, "MUNIMENT_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, env=env, timeout=60
    )
    if "mount: " in done.stderr or "unshare: " in done.stderr:
        pytest.skip(f"no mount here: {done.stderr[:100]}")
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.split()[0] in ("8", "fitted"), done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_read_only_store_answers_and_refuses_to_write(here, tmp_path):
    with here.open() as s:
        here.good(s)
    script = """
import sys
from muniment.app.session import Session
from muniment.domain import channel
from muniment.domain.errors import MunimentError
from muniment.app import building
with Session(sys.argv[1]) as s:
    assert building.state_of(s, "b-1").outcome == "ELIGIBLE"
    size = s.log.head().size
try:
    with Session(sys.argv[1], write=True) as s:
        s.run(channel.Declare("a/b", ["c"], []))
except MunimentError as error:
    print(error.exit_code, error.code)
"""
    mount = f"mount --bind {here.at} {here.at} && mount -o remount,ro,bind {here.at}"
    command = f"{mount} && {sys.executable} -c '{script}' {here.at}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, timeout=60)
    if "mount: " in done.stderr:
        pytest.skip(f"no mount here: {done.stderr[:100]}")
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("8 "), done.stdout
