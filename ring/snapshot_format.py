"""The packed record of a ring at a moment (`rc_snap` of `core.h`), read strictly: what was hashed and stored is what is shown.

Fields that the ring's description fixes must fit it, or the bytes are refused. What participants wrote (sequences, heartbeats,
stop) is shown as it is: a broken ring is exactly what a snapshot must be able to show.
"""

from __future__ import annotations

import struct
from typing import Any, NoReturn

from muniment.domain.errors import InvalidError

MAGIC = 0x31534E4D  # "MNS1" in memory order
VERSION = 1
HEAD = struct.Struct("<8I2Q4I4Q2Q4IQ32s")
CELL = struct.Struct("<10Q4I")
HEAD_FIELDS = (
    *("magic", "version", "bytes", "kind", "capabilities", "layout_bytes", "initialized", "wait"),
    *("mapped_bytes", "capacity", "slot_bytes", "stages", "cells", "exact"),
    *("cursor", "end", "t0_ns", "t1_ns", "unix_ns", "created_unix_ns"),
    *("stop", "stop_stage", "stop_code", "torn", "stop_sequence", "spec_sha256"),
)
CELL_FIELDS = (
    *("lo", "hi", "sequence", "batches", "stalls", "lost", "heartbeat_ns", "owner", "held_lo", "held_hi"),
    *("active", "deps", "alive", "index"),
)
STAGES = PRODUCERS = 16
CELL_STAGE, CELL_PRODUCER = 1, 1 + STAGES
MAX_BYTES = HEAD.size + (STAGES + PRODUCERS) * CELL.size
GATED, BROADCAST = 1, 2
MULTI, FIXED, MARKS, DROP = 1, 2, 4, 8
CAPABILITIES = {MULTI: "multi", FIXED: "fixed", MARKS: "marks", DROP: "drop"}
WAITS = ("spin", "paced", "backoff", "park")
NO_STAGE = 0xFFFFFFFF
MAX_CAPACITY, MAX_SLOT = 1 << 30, 1 << 20


def unpack(packed: bytes) -> dict[str, Any]:
    """The fields of a packed record by their names in `rc_snap`; `cell` is a list, producers first, then the stages.

    `spec_sha256` is 64 hex digits; all else are integers.

    Raises:
        InvalidError: not such a record: another length, magic or version, or a description that no ring has.
    """
    if not HEAD.size <= len(packed) <= MAX_BYTES:
        _refuse("length", f"{HEAD.size} to {MAX_BYTES} bytes", len(packed))
    found: dict[str, Any] = dict(zip(HEAD_FIELDS, HEAD.unpack_from(packed), strict=True))
    found["spec_sha256"] = found["spec_sha256"].hex()
    for name, expected, good in (
        ("magic", hex(MAGIC), found["magic"] == MAGIC),
        ("version", VERSION, found["version"] == VERSION),
        ("bytes", len(packed), found["bytes"] == len(packed)),
        ("kind", "1 or 2", found["kind"] in (GATED, BROADCAST)),
        ("capabilities", "bits 0 to 3", found["capabilities"] < 16),
        ("initialized", "0 to 2", found["initialized"] <= 2),
        ("wait", "0 to 3", found["wait"] < len(WAITS)),
        ("capacity", "a power of two to 2^30", _power(found["capacity"])),
        ("slot_bytes", "1 to 2^20", 0 < found["slot_bytes"] <= MAX_SLOT),
        ("mapped_bytes", "below 2^53", found["mapped_bytes"] < 1 << 53),
        ("stages", "1 to 16", 0 < found["stages"] <= STAGES),
        ("exact", "0 or 1", found["exact"] <= 1),
        ("stop", "0 to 2", found["stop"] <= 2),
        ("t1_ns", "not before t0_ns", found["t0_ns"] <= found["t1_ns"]),
    ):
        if not good:
            _refuse(name, expected, found[name])
    producers = found["cells"] - found["stages"]
    if not (0 <= producers <= PRODUCERS if found["capabilities"] & MULTI else producers == 1):
        _refuse("cells", "the stages and the producers", found["cells"])
    if len(packed) != HEAD.size + found["cells"] * CELL.size:
        _refuse("cells", (len(packed) - HEAD.size) / CELL.size, found["cells"])
    found["cell"] = [
        dict(zip(CELL_FIELDS, values, strict=True)) for values in CELL.iter_unpack(packed[HEAD.size :])
    ]
    _check_cells(found, producers)
    return found


def _check_cells(found: dict[str, Any], producers: int) -> None:
    last = CELL_PRODUCER - 1
    for at, cell in enumerate(found["cell"]):
        stage = at - producers
        if stage >= 0:
            index, good = CELL_STAGE + stage, cell["index"] == CELL_STAGE + stage
        elif found["capabilities"] & MULTI:
            index, good = last + 1, last < cell["index"] < CELL_PRODUCER + PRODUCERS
            last = cell["index"]
        else:
            index, good = 0, cell["index"] == 0
        if not good:
            _refuse(f"cell[{at}].index", index, cell["index"])
        if cell["alive"] > 2:
            _refuse(f"cell[{at}].alive", "0 to 2", cell["alive"])
        if cell["deps"] >> max(stage, 0):
            _refuse(f"cell[{at}].deps", "earlier stages", bin(cell["deps"]))
    stages = found["cell"][producers:]
    if found["exact"] != int(all(cell["lo"] == cell["hi"] for cell in stages)):
        _refuse("exact", "whether every lo is its hi", found["exact"])


def _power(number: int) -> bool:
    return 0 < number <= MAX_CAPACITY and number & (number - 1) == 0


def _refuse(field: str, expected: object, found: object) -> NoReturn:
    raise InvalidError(
        f"not a packed snapshot of a ring: {field}",
        code="snapshot.packed",
        field=field,
        expected=expected,
        found=found,
        hint="take it with muniment snapshot; the bytes of a record are in its evidence `runtime-snapshot`",
    )
