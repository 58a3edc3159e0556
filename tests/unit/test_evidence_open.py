"""From a URL to a place of evidence."""

from __future__ import annotations

from pathlib import Path

import pytest
from muniment.domain.errors import UnavailableError, UsageError
from muniment.store.evidence_folder import EvidenceFolder
from muniment.store.evidence_open import evidence_url, open_evidence


@pytest.mark.parametrize(
    ("given", "environ", "chosen"),
    [
        ("", {}, "store"),
        ("s3://a", {}, "s3://a"),
        ("", {"MUNIMENT_EVIDENCE": "s3://b"}, "s3://b"),
        ("s3://a", {"MUNIMENT_EVIDENCE": "s3://b"}, "s3://a"),
        ("", {"MUNIMENT_EVIDENCE": ""}, "store"),
    ],
)
def test_the_url_of_the_store_says_more_than_the_variable(
    given: str, environ: dict[str, str], chosen: str
) -> None:
    assert chosen == evidence_url("store", given, environ)


@pytest.mark.parametrize("form", ["{}", "file://{}", "path"])
def test_a_folder(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "a b"
    (folder / "evidence").mkdir(parents=True)
    text = form.format(str(folder).replace(" ", "%20") if "file" in form else folder)
    store = open_evidence(folder if form == "path" else text)
    assert isinstance(store, EvidenceFolder)
    assert (folder / "evidence", folder / "staging") == (store.root, store.staging)
    assert store.check(*store.put(b"abc")) is None
    with pytest.raises(UnavailableError):
        open_evidence(folder, read_only=True).put(b"abc")


def test_a_folder_from_outside_must_be_there_and_ones_own_is_made(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        open_evidence(str(tmp_path)).missing(["0" * 64])
    assert caught.value.code == "evidence.no_place"
    assert list(tmp_path.iterdir()) == []
    own = open_evidence(str(tmp_path), own=True)
    assert own.missing(["0" * 64]) == ["0" * 64]
    assert own.check(*own.put(b"abc")) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a\0b",
        "file:relative",
        "file://host/x",
        "file:///x?y=1",
        "file:///x#y",
        "https://host/x",
        "nfs://h/x",
        "sqlite:///x",
    ],
)
def test_what_is_no_place(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_evidence(url)
    assert caught.value.code == "evidence.url"


def test_a_password_in_what_is_no_place_is_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        open_evidence("https://user:hunter2@host/x")
    assert "hunter2" not in str(caught.value) + str(caught.value.context) + caught.value.hint
