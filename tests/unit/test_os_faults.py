"""Errors of the operating system: one word for each kind, always exit 8, and nothing that a terminal would act on."""

from __future__ import annotations

import errno
import os

import pytest
from muniment.domain.os_faults import os_fault, shown


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EFBIG, "disk_full"),
        (errno.ENOMEM, "memory_full"),
        (errno.ENAMETOOLONG, "name_too_long"),
        (errno.EROFS, "read_only"),
        (errno.EACCES, "permission"),
        (errno.EPERM, "permission"),
        (errno.ENOENT, "vanished"),
        (errno.ENOTDIR, "vanished"),
        (errno.ELOOP, "vanished"),
        (errno.EIO, "io"),
        (errno.ENXIO, "io"),
    ],
)
def test_every_kind_has_its_word(number: int, code: str) -> None:
    fault = os_fault(OSError(number, os.strerror(number)), "read", "/a\x1b[2J", "place")
    assert (f"place.{code}", 8, os.strerror(number)) == (fault.code, fault.exit_code, fault.context["found"])
    assert fault.hint
    assert "/a\\x1b[2J" == fault.context["path"]
    assert fault.message.isprintable()


def test_an_error_without_a_reason_has_its_type() -> None:
    assert "BlockingIOError" == os_fault(BlockingIOError(), "lock", "x", "place").context["found"]


@pytest.mark.parametrize(
    ("text", "expected"), [("a b", "a b"), ("\n", "\\n"), ("\udcff", "\\udcff"), ("x" * 201, "x" * 199 + "…")]
)
def test_a_path_is_shown_in_one_short_line(text: str, expected: str) -> None:
    assert expected == shown(text)
