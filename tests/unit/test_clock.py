"""The judge of forward jumps, its cache, and the home folder that keeps it (settled.md, 1 and 12)."""

from __future__ import annotations

import json
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muniment.app import clock, home
from muniment.app.clock import ClockCache, Reading, judge
from muniment.domain.errors import UsageError

HOUR = 3_600_000_000
LAST = Reading(1_800_000_000_000_000, 50 * HOUR, "boot-a")


def later(wall: int, boot: int, boot_id: str = "boot-a") -> Reading:
    return Reading(LAST.wall_us + wall, LAST.boot_us + boot, boot_id)


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        (later(0, 0), ("ok", 0)),
        (later(HOUR, 0), ("ok", 3600)),
        (later(HOUR + 1, 0), ("jump_refused", 3600)),
        (later(12 * HOUR, 12 * HOUR), ("ok", 0)),  # an idle night
        (later(12 * HOUR, 2 * HOUR), ("jump_refused", 36_000)),
        (later(73 * 365 * 24 * HOUR, HOUR), ("jump_refused", 73 * 365 * 24 * 3600 - 3600)),
        (later(-5_500_000, HOUR), ("ok", -5)),  # back: information
        (later(60 * HOUR, 0, "boot-b"), ("jump_observed", 10 * 3600)),
        (
            later(60 * HOUR, -HOUR),
            ("jump_observed", 11 * 3600),
        ),  # boot time went back
        (later(50 * HOUR, -49 * HOUR, ""), ("jump_observed", 49 * 3600)),
        (later(2 * HOUR, -48 * HOUR, "boot-b"), ("ok", 0)),  # a reboot that boot time accounts for
        (later(-HOUR, 0, "boot-b"), ("ok", -3600)),
    ],
)
def test_judgement(current, expected) -> None:
    assert judge(current, LAST) == expected


def test_unknown_boot_is_never_the_same_boot() -> None:
    unknown = LAST._replace(boot_id="")
    assert judge(later(99 * HOUR, 0, ""), unknown).kind == "jump_observed"


def test_first_use_judges_nothing() -> None:
    assert judge(LAST, None) == ("ok", 0)


@given(st.integers(-(2**45), 2**45), st.integers(0, 2**45), st.booleans())
def test_refused_only_within_one_boot_and_beyond_an_hour(wall, boot, same) -> None:
    kind = judge(later(wall, boot, "boot-a" if same else "boot-b"), LAST).kind
    assert (kind == "jump_refused") == (same and wall - boot > HOUR and wall >= 0)


def test_refused_until_accepted(tmp_path) -> None:
    current = [LAST]
    cache = ClockCache(tmp_path / "writer" / "s.json", lambda: current[0])
    assert cache.check() == ("ok", 0)
    assert cache.mark() == ""
    current[0] = later(5 * HOUR, 0)
    for _ in range(3):
        assert cache.check() == ("jump_refused", 5 * 3600)
    assert cache.accept() == ("jump_refused", 5 * 3600)
    assert cache.check() == ("ok", 0)
    current[0] = later(5 * HOUR + HOUR + 1, 0)
    assert cache.check().kind == "jump_refused"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"wall_us":1}',
        b'{"wall_us":"1","boot_us":1,"boot_id":"x"}',
        b'{"wall_us":true,"boot_us":1,"boot_id":"x"}',
        b"[" * 100_000,
    ],
)
def test_damaged_cache_is_a_first_use(tmp_path, data) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(data)
    cache = ClockCache(path, lambda: LAST)
    assert cache.last() is None
    assert cache.check() == ("ok", 0)
    assert cache.mark() == ""
    assert cache.last() == LAST


def test_cache_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = ClockCache(tmp_path / "file" / "s.json", lambda: LAST)
    assert "clock cache not written" in cache.mark()
    with pytest.raises(OSError, match="clock cache not written"):
        cache.accept()


def test_host_is_read() -> None:
    one, two = clock.read_host(), clock.read_host()
    assert one.boot_id == two.boot_id
    assert one.boot_us <= two.boot_us
    assert judge(two, one).kind == "ok"
    assert abs(clock.now() - two.wall_us) < 60_000_000


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"MUNIMENT_HOME": "/m", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/m"),
        ({"MUNIMENT_HOME": "", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/muniment"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/muniment"),
        ({"HOME": "/h"}, "/h/.local/state/muniment"),
    ],
)
def test_home(env, expected) -> None:
    assert str(home.home(env)) == expected


def test_head_is_remembered_forwards_only(tmp_path) -> None:
    assert home.last_head("s-1", tmp_path) == (None, "")
    assert home.remember_head("s-1", 5, b"\x01" * 32, now=0, base=tmp_path) == ""
    assert home.last_head("s-1", tmp_path).head == (5, "01" * 32, "1970-01-01T00:00:00.000000Z")
    assert "size 5 was seen" in home.remember_head("s-1", 4, b"\x02" * 32, base=tmp_path)
    assert "was seen at this size" in home.remember_head("s-1", 5, b"\x02" * 32, base=tmp_path)
    assert home.last_head("s-1", tmp_path).head.root == "01" * 32
    assert home.remember_head("s-1", 6, "03" * 32, base=tmp_path) == ""
    assert home.last_head("s-1", tmp_path).head.size == 6
    assert home.last_head("s-2", tmp_path).head is None
    assert stat.S_IMODE((tmp_path / "heads").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b'{"size":1}',
        b'{"size":-1,"root":"' + b"0" * 64 + b'","seen_at":""}',
        b'{"size":1,"root":"00","seen_at":""}',
        b'{"size":true,"root":"' + b"0" * 64 + b'","seen_at":""}',
        b"\x00\xff",
    ],
)
def test_damaged_head_is_a_warning_and_is_set_aside(tmp_path, data) -> None:
    path = home.head_file("s", tmp_path)
    path.parent.mkdir()
    path.write_bytes(data)
    head, warning = home.last_head("s", tmp_path)
    assert head is None
    assert "damaged" in warning
    assert home.remember_head("s", 1, b"\0" * 32, base=tmp_path) == ""
    assert path.with_name("s.json.damaged").read_bytes() == data
    assert home.last_head("s", tmp_path).head.size == 1


def test_home_that_cannot_be_written_breaks_nothing(tmp_path) -> None:
    base = tmp_path / "file"
    base.write_bytes(b"")
    assert "head not remembered" in home.remember_head("s", 1, b"\0" * 32, base=base)
    assert home.last_head("s", base).head is None
    assert base.read_bytes() == b""


def test_write_leaves_no_temporary_file(tmp_path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="directory"):
        home.write_atomic(tmp_path / "x", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("store_id", ["", "..", ".", "a/b", "/a", "a\0", "-a", "a" * 129, "a\n"])
def test_store_id_names_no_other_place(store_id, tmp_path) -> None:
    for function in (home.memo_dir, home.key_dir, home.head_file, home.writer_file):
        with pytest.raises(UsageError):
            function(store_id, tmp_path)


@pytest.mark.parametrize(("size", "root"), [(-1, b"\0" * 32), (1, b""), (1, "zz" * 32), (1, "AA" * 32)])
def test_not_a_head(size, root, tmp_path) -> None:
    with pytest.raises(UsageError):
        home.remember_head("s", size, root, base=tmp_path)


def test_heads_file_is_json(tmp_path) -> None:
    home.remember_head("s", 1, b"\0" * 32, now=1, base=tmp_path)
    found = json.loads(home.head_file("s", tmp_path).read_text())
    assert found == {"size": 1, "root": "00" * 32, "seen_at": "1970-01-01T00:00:00.000001Z"}
