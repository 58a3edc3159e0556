"""Exported checkpoints: whatever is done to one, or to the log behind it, is found and named."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from muniment.app import creating, keys
from muniment.app.verify import verify_store
from muniment.app.verify_report import Report
from muniment.store import checkpoint
from muniment.store.open import open_log


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    creating.create_store(str(tmp_path / "store"))
    return tmp_path / "store"


def verify(store: Path) -> Report:
    return verify_store(store, base=store.parent / "home")


def test_a_new_store_passes_with_its_first_checkpoint(store: Path) -> None:
    report = verify(store)
    assert report.ok
    assert report["exports.checkpoints"].verdict == "pass"


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _root(path: Path) -> None:
    """Another root, signed by another key under the log's name."""
    old = checkpoint.parse(path.read_bytes()).checkpoint
    forged = checkpoint.Checkpoint(old.origin, old.size, bytes(32))
    path.write_bytes(checkpoint.sign(forged, Ed25519PrivateKey.generate()))


@pytest.mark.parametrize(
    "damage",
    [
        _flip,
        _root,
        Path.unlink,
        lambda path: path.write_bytes(path.read_bytes() + b"junk"),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.rename(path.with_name("checkpoint-1")),
    ],
    ids=["flipped", "forged", "removed", "longer", "shorter", "empty", "renamed"],
)
def test_a_changed_checkpoint_is_found(store: Path, damage: Callable[[Path], object]) -> None:
    damage(store / "exports" / "checkpoint-2")
    report = verify(store)
    assert report.exit_code == 7
    assert report.failed() == ["exports.checkpoints"]
    first = report["exports.checkpoints"].findings[0]
    assert first.expected != first.found
    assert first.field.startswith("exports")


@pytest.mark.parametrize(
    ("size", "root"), [(2, bytes(32)), (9, bytes(32))], ids=["another-root", "a-longer-log"]
)
def test_a_log_that_is_not_the_one_that_was_signed(store: Path, size: int, root: bytes) -> None:
    """The log's own key signed another head: the log was rewritten or cut since."""
    key = keys.load_key("log", store / "keys")
    log = open_log(store, read_only=True)
    origin = f"muniment/{log.store_id}"
    log.close()
    note = checkpoint.sign(checkpoint.Checkpoint(origin, size, root), key)
    (store / "exports" / f"checkpoint-{size}").write_bytes(note)
    report = verify(store)
    assert report.exit_code == 7
    assert report["exports.checkpoints"].findings[0].field in ("root", "size")


def test_another_logs_checkpoint_is_found(store: Path) -> None:
    key = keys.load_key("log", store / "keys")
    note = checkpoint.sign(checkpoint.Checkpoint("muniment/other", 2, bytes(32)), key)
    (store / "exports" / "checkpoint-2").write_bytes(note)
    assert verify(store).failed() == ["exports.checkpoints"]
    assert base64.b64encode(bytes(32)) in note
