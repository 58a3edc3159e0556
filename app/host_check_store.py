"""What Muniment itself asks of a host: the folder of rings, the store, the clock, the disk, private keys, extras (`host_check`).

A bare laptop has no store yet; that is said and is no failure, since a check of the host comes before the first store.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from muniment.app.host_check_facts import STA_UNSYNC, TIME_ERROR, HostFacts
from muniment.app.host_check_model import ALL, TUNED, Look, Rule, Seen, Verdict
from muniment.domain.instant import to_micros

MIB = 1 << 20
RING_FREE = 32 * MIB  # half of what a container has by default; a ring of 1024 slots of 256 bytes has 0.3 MiB
DISK_FREE = 256 * MIB  # a checkpoint of the log writes 16 MiB; the rest is time to notice
BACK_US = 5_000_000  # settled.md, 1: clocks that read one log may differ so much
TMPFS = ("tmpfs", "ramfs", "hugetlbfs")
HOLDS, PARTIAL, PENDING, LACKS, UNKNOWN = (
    Verdict.HOLDS,
    Verdict.PARTIAL,
    Verdict.PENDING,
    Verdict.LACKS,
    Verdict.UNKNOWN,
)


def nearest(host: HostFacts, path: str) -> Path:
    """The path, or the nearest folder above it that exists. Raises OSError: one cannot be looked into."""
    place = Path(path)
    for each in (place, *place.parents):
        try:
            host.at(each).stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return each
    return Path("/")


# -- the folder of rings --------------------------------------------------------------------------------------------


def _ring_folder(look: Look) -> Seen:
    host, uid = look.host, look.host.numbers.uid
    try:
        found = host.at(look.runtime).lstat()
    except (FileNotFoundError, NotADirectoryError):
        above = nearest(host, look.runtime)
        if not host.at(above).is_dir() or not os.access(host.at(above), os.W_OK | os.X_OK):
            return Seen(LACKS, f"{look.runtime} cannot be made in {above}", "name another: MUNIMENT_RUNTIME")
        return Seen(PENDING, f"{look.runtime} is not there yet", "the first run makes it")
    mode = stat.S_IMODE(found.st_mode)
    observed = f"{look.runtime}, mode {mode:04o}"
    if not stat.S_ISDIR(found.st_mode):
        return Seen(LACKS, f"{look.runtime} is no folder", "move it away: a link or a file is not followed")
    if found.st_uid != uid:
        return Seen(
            LACKS,
            f"{observed}, uid {found.st_uid}",
            f"it belongs to somebody else than uid {uid}: name another, MUNIMENT_RUNTIME",
        )
    if mode != 0o700:
        why = f"set MUNIMENT_RUNTIME to a folder of its own; if nothing else uses this one: chmod 0700 {look.runtime}"
        return Seen(LACKS, observed, why)
    return Seen(HOLDS, observed)


def _ring_memory(look: Look) -> Seen:
    kind = look.host.file_system(nearest(look.host, look.runtime))
    if kind not in TMPFS:
        return Seen(
            LACKS, kind, "a ring on a disk is written back to it: set MUNIMENT_RUNTIME to a folder on tmpfs"
        )
    return Seen(HOLDS, kind)


def _ring_space(look: Look) -> Seen:
    return _space(look, look.runtime, RING_FREE)


def _space(look: Look, path: str, least: int) -> Seen:
    place = nearest(look.host, path)
    free = look.host.free(place)
    if free < least:
        return Seen(LACKS, f"{free // MIB} MiB at {place}", "make room there, or name another place")
    return Seen(HOLDS, f"{free // MIB} MiB at {place}")


# -- the store ------------------------------------------------------------------------------------------------------


def _store_missing(look: Look) -> Seen | None:
    """What every check of a store says where there is none, or where it cannot be opened."""
    store = look.store
    if store.missing:
        return Seen(PARTIAL, "no store", "there is no store yet: muniment init")
    if store.error is not None:
        return Seen(UNKNOWN, "not known", f"the store cannot be opened ({store.error.code})")
    return None


def _reachable(look: Look) -> Seen:
    store = look.store
    if store.error is not None and not store.missing:
        return Seen(LACKS, store.name, f"{store.error.message} ({store.error.code})")
    return _store_missing(look) or Seen(HOLDS, f"{store.name}, {store.size} records")


def _durable(look: Look) -> Seen:
    if (nothing := _store_missing(look)) is not None:
        return nothing
    store = look.store
    if store.settings_error or not store.settings:
        return Seen(UNKNOWN, "not known", store.settings_error or "the store says nothing of its settings")
    observed = ", ".join(f"{name} {found}" for name, _, found in store.settings)
    wrong = [
        f"{name} must be {wanted}" for name, wanted, found in store.settings if found not in wanted.split("|")
    ]
    return (
        Seen(LACKS, observed, f"what was acknowledged may be lost: {', '.join(wrong)}")
        if wrong
        else Seen(HOLDS, observed)
    )


def _head(look: Look) -> Seen:
    if (nothing := _store_missing(look)) is not None:
        return nothing
    store = look.store
    if store.seen_warning:
        return Seen(UNKNOWN, "not known", store.seen_warning)
    observed = f"{store.size} records, {store.seen_size} seen before"
    if store.size < store.seen_size:
        return Seen(LACKS, observed, "records that this user has seen are gone: muniment verify store")
    return Seen(HOLDS, observed)


# -- clock, disk, keys, extras --------------------------------------------------------------------------------------


def _forward(look: Look) -> Seen:
    if (nothing := _store_missing(look)) is not None:
        return nothing
    store = look.store
    last = max(store.recorded_at, store.seen_at)
    if not last:
        return Seen(HOLDS, "nothing recorded or seen before")
    ahead = to_micros(last) - store.now_us
    if ahead > BACK_US:
        return Seen(
            LACKS, f"{ahead // 1_000_000} s behind {last}", "the clock went back since then: set it right"
        )
    if store.jump:
        return Seen(
            LACKS,
            f"{store.jump} s ahead",
            "the clock jumped forward: set it right, or muniment clock accept --reason …",
        )
    return Seen(HOLDS, f"not behind {last}")


def _synchronised(look: Look) -> Seen:
    """The kernel is asked; a service that keeps the clock without telling the kernel leaves a file or a socket."""
    host, clock = look.host, look.host.numbers.clock
    observed = "the kernel does not say" if clock is None else f"adjtimex {clock[0]}, status {clock[1]:#x}"
    if clock is not None and clock[0] != TIME_ERROR and not clock[1] & STA_UNSYNC:
        return Seen(HOLDS, observed)
    if host.at("/run/systemd/timesync/synchronized").exists():
        return Seen(HOLDS, f"{observed}; systemd-timesyncd has synchronised it")
    if any(
        host.at(f"/run/{name}").exists()
        for name in ("chrony/chronyd.sock", "chrony/chronyd.pid", "chronyd.pid")
    ):
        return Seen(
            PARTIAL,
            f"{observed}; chronyd runs",
            "chronyd does not tell the kernel: set rtcsync, ask chronyc tracking",
        )
    if clock is None:
        return Seen(UNKNOWN, observed, "and no service of time is seen")
    return Seen(LACKS, observed, "no service of time keeps it: start chronyd or systemd-timesyncd")


def _disk(look: Look) -> Seen:
    path = look.store.place or look.home
    if not path:
        return Seen(UNKNOWN, "not known", look.home_error)
    return _space(look, path, DISK_FREE)


def _keys(look: Look) -> Seen:
    if not look.home:
        return Seen(UNKNOWN, "not known", look.home_error)
    own = [Path(look.store.place) / "keys"] if look.store.place else []
    wrong, count = [], 0
    for folder in (*_key_folders(look.host, look.home), *own):
        listed = [name for name in _names(look.host, folder) if name.endswith((".pem", ".key"))]
        for path in [folder, *(folder / name for name in listed)] if listed else []:
            found = look.host.at(path).lstat()
            mode = stat.S_IMODE(found.st_mode)
            kind = stat.S_ISDIR if path == folder else stat.S_ISREG
            if mode & 0o077 or found.st_uid not in (look.host.numbers.uid, 0) or not kind(found.st_mode):
                wrong.append(f"{path} has mode {mode:04o}, uid {found.st_uid}")
        count += len(listed)
    observed = f"{count} {'key' if count == 1 else 'keys'}"
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return Seen(
            LACKS, observed, f"{wrong[0]}{more}: chmod go= it; if others could read it, rotate the key"
        )
    return Seen(HOLDS, observed)


def _key_folders(host: HostFacts, home: str) -> Iterator[Path]:
    for name in _names(host, Path(home) / "keys"):
        yield Path(home) / "keys" / name
    for name in _names(host, Path(home) / "stores"):
        yield Path(home) / "stores" / name / "keys"


def _names(host: HostFacts, folder: Path) -> list[str]:
    """Names in a folder, none if it does not exist. Raises OSError: it cannot be listed."""
    try:
        return sorted(os.listdir(host.at(folder)))  # noqa: PTH208 - pathlib's globs pass over what they may not list
    except (FileNotFoundError, NotADirectoryError):
        return []


def _extras(look: Look) -> Seen:
    extras = look.host.numbers.extras
    observed = ", ".join(
        f"{name} {'installed' if there else 'absent'}" for name, there in sorted(extras.items())
    )
    absent = sorted(name for name, there in extras.items() if not there)
    if absent:
        return Seen(LACKS, observed, f"if it is wanted: pip install 'muniment[{','.join(absent)}]'")
    return Seen(HOLDS, observed)


RULES = (
    Rule("ring.folder", "a folder of ours, mode 0700, or a place to make it", ALL, _ring_folder),
    Rule("ring.memory", "tmpfs", TUNED, _ring_memory),
    Rule("ring.space", f"at least {RING_FREE // MIB} MiB free", ALL, _ring_space),
    Rule("store.reachable", "a store that opens", ALL, _reachable),
    Rule("store.durable", "a commit survives a power cut", ALL, _durable),
    Rule("store.head", "no fewer records than were seen", ALL, _head),
    Rule("clock.forward", "not behind the last record or the last head seen", ALL, _forward),
    Rule("clock.synchronised", "kept by a service of time", (), _synchronised),
    Rule("disk.space", f"at least {DISK_FREE // MIB} MiB free", ALL, _disk),
    Rule("keys.private", "private keys only their owner can read", ALL, _keys),
    Rule("extras", "all extras installed", (), _extras),
)
