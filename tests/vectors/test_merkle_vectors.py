"""The public proof vectors of transparency-dev/merkle: most must fail. Absent vectors are named as absent."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from muniment.store import merkle

SHARED = Path(__file__).parents[2].parent / "shared" / "vectors"
ROOT = Path(os.environ.get("MUNIMENT_VECTORS", SHARED)) / "merkle"


def cases(kind: str) -> list[object]:
    files = sorted((ROOT / kind).rglob("*.json"))
    if not files:
        reason = f"public vectors are not present: {kind} (set MUNIMENT_VECTORS)"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(path, id=str(path.relative_to(ROOT / kind))) for path in files]


def raw(text: str | None) -> bytes:
    return base64.b64decode(text or "")


@pytest.mark.parametrize("path", cases("inclusion"))
def test_inclusion(path: Path) -> None:
    case = json.loads(path.read_text())
    proof = [raw(step) for step in case["proof"] or []]
    found = merkle.verify_inclusion(
        raw(case["leafHash"]), case["leafIdx"], case["treeSize"], proof, raw(case["root"])
    )
    assert (not case["wantErr"]) is found, case["desc"]


@pytest.mark.parametrize("path", cases("consistency"))
def test_consistency(path: Path) -> None:
    case = json.loads(path.read_text())
    proof = [raw(step) for step in case["proof"] or []]
    found = merkle.verify_consistency(
        case["size1"], case["size2"], proof, raw(case["root1"]), raw(case["root2"])
    )
    assert (not case["wantErr"]) is found, case["desc"]


@pytest.mark.skipif(not ROOT.is_dir(), reason="public vectors are not present (set MUNIMENT_VECTORS)")
def test_the_vectors_hold_both_outcomes() -> None:
    outcomes = [json.loads(path.read_text())["wantErr"] for path in ROOT.glob("[ic]*s*/**/*.json")]
    assert outcomes.count(True) > 100
    assert outcomes.count(False) > 5
