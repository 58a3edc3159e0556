"""Packed snapshots of rings that never were; `import snapshot_samples` finds it."""

from __future__ import annotations

from typing import Any

from muniment.ring import snapshot_format as form
from muniment.ring.snapshot import render

SECOND = 1_000_000_000
NOW = 50 * SECOND


def cell(index: int, at: int = 0, **fields: Any) -> dict[str, Any]:
    made = dict.fromkeys(form.CELL_FIELDS, 0)
    return {
        **made,
        "index": index,
        "lo": at,
        "hi": at,
        "sequence": at,
        "active": 1,
        "alive": 1,
        "owner": (4242 << 32) | index,
        "heartbeat_ns": NOW - 1000,
        **fields,
    }


def chain(*at: int, **fields: Any) -> list[dict[str, Any]]:
    """Stages one behind the other."""
    return [
        cell(1 + i, seq, deps=1 << (i - 1) if i else 0, **fields.get(f"s{i}", {})) for i, seq in enumerate(at)
    ]


def pack(
    cursor: int, rows: list[dict[str, Any]], producers: list[dict[str, Any]] | None = None, **fields: Any
) -> bytes:
    producers = [cell(0, cursor)] if producers is None else producers
    cells = [*producers, *rows]
    head = {
        **dict.fromkeys(form.HEAD_FIELDS, 0),
        "magic": form.MAGIC,
        "version": 1,
        "bytes": form.HEAD.size + len(cells) * form.CELL.size,
        "kind": form.GATED,
        "layout_bytes": 8960,
        "initialized": 2,
        "mapped_bytes": 1 << 20,
        "capacity": 1024,
        "slot_bytes": 256,
        "stages": len(rows),
        "cells": len(cells),
        "exact": int(all(c["lo"] == c["hi"] for c in rows)),
        "cursor": cursor,
        "t0_ns": NOW - 100,
        "t1_ns": NOW,
        "unix_ns": 1_790_000_000 * SECOND,
        "created_unix_ns": 1_789_999_900 * SECOND,
        "stop_stage": form.NO_STAGE,
        "spec_sha256": bytes(range(32)),
        **fields,
    }
    body = form.HEAD.pack(*(head[name] for name in form.HEAD_FIELDS))
    return body + b"".join(form.CELL.pack(*(c[name] for name in form.CELL_FIELDS)) for c in cells)


def shown(packed: bytes, names: Any = None, **options: Any) -> dict[str, Any]:
    return render(packed, names, "/run/ring", **options)
