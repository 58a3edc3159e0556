"""The clock before every append: jumps that are refused, accepted, recorded, and what is none."""

from __future__ import annotations

import json

import pytest
import shop
from muniment.app import clock, home
from muniment.app.session import Options
from muniment.domain.errors import ConflictError, UnavailableError

HOUR = 3_600_000_000


def last_write(s, *, wall=0, boot=0, boot_id=None):
    """Say that the last write was made when the clock read that much less."""
    now = clock.read_host()
    path = home.writer_file(s.store_id)
    reading = {
        "wall_us": now.wall_us - wall,
        "boot_us": now.boot_us - boot,
        "boot_id": now.boot_id if boot_id is None else boot_id,
    }
    path.write_text(json.dumps(reading))


def test_a_jump_within_one_boot_is_refused_until_a_person_accepts_it(here):
    with here.open() as s:
        shop.declare(s)
        before = s.log.head().size
        last_write(s, wall=3 * HOUR)
        for _ in range(2):
            with pytest.raises(UnavailableError) as caught:
                shop.declare(s, "prod/canary")
            assert ("clock.jump_refused", 8) == (caught.value.code, caught.value.exit_code)
        assert before == s.log.head().size
        assert shop.declare(s, "prod/canary", Options(dry_run=True)).exit_code == 0, (
            "a dry run appends nothing"
        )
    with here.open() as s:
        with pytest.raises(UnavailableError):
            shop.declare(s, "prod/canary")
        dry = s.accept_clock(Options(dry_run=True, reason="ntp"))
        assert dry.event("clock.jump_accepted/1")["seconds"] in (10799, 10800)
        with pytest.raises(UnavailableError):
            shop.declare(s, "prod/canary")
        accepted = s.accept_clock(Options(key="yes", reason="ntp"))
        assert accepted.event("clock.jump_accepted/1")["reason"] == "ntp"
        shop.must(shop.declare(s, "prod/canary"))
        again = s.accept_clock(Options(key="yes", reason="ntp"))
        assert (True, accepted.positions) == (again.repeated, again.positions)
        last_write(s, wall=5 * HOUR)
        s.accept_clock(Options(key="yes"))
        with pytest.raises(UnavailableError):
            shop.declare(s, "prod/lts")  # the old key accepts no new jump


def test_a_jump_in_the_middle_of_a_session_is_seen(here):
    with here.open() as s:
        shop.declare(s)
        last_write(s, wall=3 * HOUR)
        with pytest.raises(UnavailableError):
            shop.declare(s, "prod/canary")


def test_an_idle_night_and_a_clock_that_went_back_are_no_jump(here):
    with here.open() as s:
        shop.declare(s)
        now = clock.read_host()
        last_write(s, wall=min(30 * HOUR, now.boot_us), boot=min(30 * HOUR, now.boot_us))
        shop.must(shop.declare(s, "prod/canary"))
        last_write(s, wall=-3 * HOUR)
        shop.must(shop.declare(s, "prod/lts"))
        assert "clock.jump_observed" not in shop.types(s)
        stamps = [record["recorded_at"] for record in shop.records(s)]
        assert sorted(stamps) == stamps


def test_a_jump_across_boots_is_recorded_once_and_not_refused(here):
    with here.open() as s:
        shop.declare(s)
        last_write(s, wall=1000 * HOUR, boot_id="another")
        with pytest.raises(ConflictError):
            shop.declare(s, "prod/canary", Options(expect=1))
        shop.must(shop.declare(s, "prod/canary"))
        shop.must(shop.declare(s, "prod/lts"))
        told = shop.types(s)
        assert told.count("clock.jump_observed") == 1
        observed = next(r for r in shop.records(s) if r["type"] == "clock.jump_observed/1")
        assert observed["data"]["seconds"] > 3600
        assert "command" not in observed


@pytest.mark.parametrize("text", ["", "{", "[]", '{"wall_us": "1", "boot_us": 1, "boot_id": ""}', "\0" * 50])
def test_a_damaged_clock_cache_is_no_judgement(here, text):
    with here.open() as s:
        home.writer_file(s.store_id).write_text(text)
        shop.must(shop.declare(s))
