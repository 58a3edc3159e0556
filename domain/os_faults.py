"""Errors of the operating system in our words, and paths as a message shows them. Both the store and the ring say them so."""

from __future__ import annotations

import errno

from muniment.domain.errors import UnavailableError


def shown(text: object) -> str:
    """A path for a message: what a terminal would act on is escaped, and it is cut at 200 characters."""
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return escaped if len(escaped) <= 200 else escaped[:199] + "…"


def os_fault(error: OSError, doing: str, path: object, area: str) -> UnavailableError:
    """What an OSError means: always exit 8, since nothing was decided. `area` is the first word of its code."""
    number = error.errno
    if number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        code, hint = "disk_full", "free space or raise the quota, then run it again"
    elif number == errno.ENOMEM:
        code, hint = "memory_full", "free memory or ask for less, then run it again"
    elif number == errno.ENAMETOOLONG:
        code, hint = "name_too_long", "give it a shorter name"
    elif number == errno.EROFS:
        code, hint = "read_only", "the file system is mounted read-only"
    elif number in {errno.EACCES, errno.EPERM}:
        code, hint = "permission", "check owner and mode of the path and of the folders above it"
    elif number in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
        code, hint = "vanished", "something moved or replaced the path while it was used; run it again"
    else:
        code, hint = "io", "look into the system log for the device"
    reason = error.strerror or type(error).__name__
    return UnavailableError(
        f"cannot {doing} {shown(path)}: {reason}",
        code=f"{area}.{code}",
        hint=hint,
        path=shown(path),
        found=reason,
    )
