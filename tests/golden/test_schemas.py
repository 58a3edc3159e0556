"""The published schemas: equal to the code byte for byte, valid, closed, and never changed once released."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from muniment.app import schemas
from muniment.domain.errors import InvalidError, MunimentError, NotFoundError, UsageError
from muniment.domain.records import TABLE
from muniment.ops import generate

ROOT = Path(__file__).parents[2]
PINNED = "channel.pinned/1"
TYPES = sorted(TABLE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without drift, as far as `generate` looks; what the command line could not make is left out."""
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas")
    return tmp_path


def news(root: Path) -> list[str]:
    """Problems of a changed checkout that the repository does not have."""
    known = generate.check(ROOT)
    return [problem for problem in generate.check(root) if problem not in known]


@pytest.mark.parametrize(
    "part", ["schemas/records/", "schemas/exit-codes", "schemas/help", "schemas/outputs/", ""]
)
def test_what_is_checked_in_is_what_the_code_makes(part: str) -> None:
    parts = ("schemas/records/", "schemas/exit-codes", "schemas/help", "schemas/outputs/")
    problems = generate.check(ROOT)
    if part:
        problems = [problem for problem in problems if problem.startswith(part)]
    else:
        problems = [problem for problem in problems if not problem.startswith(parts)]
    assert problems == [], generate.ADVICE


def test_one_changed_byte_is_named_with_its_line(checkout: Path) -> None:
    file = checkout / "schemas" / "records" / "channel.pinned.1.json"
    lines = file.read_bytes().split(b"\n")
    lines[3] += b" "
    file.write_bytes(b"\n".join(lines))
    assert news(checkout) == ["schemas/records/channel.pinned.1.json: differs from the code, first in line 4"]


def test_a_cut_file_is_drift(checkout: Path) -> None:
    file = checkout / "schemas" / "records" / "channel.pinned.1.json"
    file.write_bytes(file.read_bytes().removesuffix(b"\n"))
    assert len(news(checkout)) == 1


def test_a_missing_and_a_leftover_file_are_drift(checkout: Path) -> None:
    records = checkout / "schemas" / "records"
    (records / "channel.pinned.1.json").rename(records / "channel.pinned.9.json")
    assert news(checkout) == [
        "schemas/records/channel.pinned.1.json: missing",
        "schemas/records/channel.pinned.9.json: nothing makes it any more",
    ]
    generate.write(checkout)
    assert news(checkout) == []


def test_a_type_that_the_changelog_does_not_name_is_drift(checkout: Path) -> None:
    file = checkout / "CHANGELOG.md"
    file.write_text(file.read_text(encoding="utf-8").replace(f"`{PINNED}`", ""), encoding="utf-8")
    assert news(checkout) == [f"CHANGELOG.md does not name `{PINNED}`"]


def test_a_released_shape_never_changes(checkout: Path) -> None:
    released = checkout / "schemas" / "released.txt"
    assert generate.freeze(checkout) == len(TABLE)
    assert generate.freeze(checkout) == 0
    assert news(checkout) == []
    frozen = released.read_text(encoding="utf-8")
    shape = schemas.shape_digest(schemas.show(PINNED))
    released.write_text(frozen.replace(shape, "sha256:" + "0" * 64), encoding="utf-8")
    assert news(checkout) == [f"{PINNED}: was released with shape sha256:{'0' * 64}, now {shape}"]
    released.write_text(frozen.replace(PINNED, "channel.nailed/1"), encoding="utf-8")
    assert news(checkout) == [f"channel.nailed/1: was released with shape {shape}, now gone"]


@pytest.mark.parametrize("line", ["channel.pinned/1", "a b c", "channel.pinned/1 x\nchannel.pinned/1 y"])
def test_a_damaged_list_of_released_shapes_is_refused(checkout: Path, line: str) -> None:
    (checkout / "schemas" / "released.txt").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(InvalidError, match=r"released\.txt"):
        generate.check(checkout)


def test_without_the_list_nothing_passes(checkout: Path) -> None:
    (checkout / "schemas" / "released.txt").unlink()
    with pytest.raises(NotFoundError):
        generate.check(checkout)


def test_wording_may_change_and_shape_may_not() -> None:
    shape, digest = schemas.show(PINNED), schemas.shape_digest(schemas.show(PINNED))
    assert digest == schemas.shape_digest({**shape, "description": "other words", "x-command": "other"})
    for member, value in (("required", []), ("additionalProperties", True), ("properties", {})):
        assert digest != schemas.shape_digest({**shape, member: value}), member


def test_a_field_called_title_or_description_is_kept() -> None:
    schema = {
        "title": "T",
        "properties": {"title": {"title": "Title", "type": "string"}, "description": {"type": "null"}},
    }
    other = {**schema, "properties": {"title": {"type": "integer"}, "description": {"type": "null"}}}
    fewer = {**schema, "properties": {"title": {"type": "string"}}}
    assert len({schemas.shape_digest(one) for one in (schema, other, fewer)}) == 3


@pytest.mark.parametrize("type_", TYPES)
def test_a_schema_is_valid_and_closed(type_: str) -> None:
    schema = schemas.show(type_)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert schema["title"] == type_
    assert schema["description"].strip()
    assert schema["x-command"].strip(), "who makes it"
    assert "number" not in json.dumps(schema), "a record holds no floats"


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"pack": "sha256:zz"}, False),
        ({"scope": "Prod/stable"}, False),
        ({"expires_at": "tomorrow"}, False),
        ({"owner": 7}, False),
        ({"note": "unknown field"}, False),
    ],
)
def test_a_foreign_validator_agrees_with_the_registry(change: dict, fits: bool) -> None:
    from muniment.domain.records import validate

    data = {
        "scope": "prod/stable",
        "pack": "sha256:" + "0a" * 32,
        "owner": "alice",
        "expires_at": "2026-12-01T00:00:00.000000Z",
        "reason": "audit",
    } | change
    checker = jsonschema.Draft202012Validator(json.loads(schemas.files()["channel.pinned.1.json"]))
    assert checker.is_valid(data) is fits
    if fits:
        validate(PINNED, data)
    else:
        with pytest.raises(InvalidError):
            validate(PINNED, data)


def test_show_takes_a_name_for_its_newest_version_and_helps_with_a_slip() -> None:
    assert schemas.show("channel.pinned") == schemas.show(PINNED)
    with pytest.raises(NotFoundError, match="no record type") as error:
        schemas.show("channel.pined/1")
    assert PINNED in error.value.hint
    with pytest.raises(NotFoundError):
        schemas.show("channel")


def test_every_error_has_its_line_in_the_table_of_exit_codes() -> None:
    table = {
        row["code"]: row["meaning"] for row in json.loads((ROOT / "schemas" / "exit-codes.json").read_bytes())
    }
    pending, codes = [MunimentError], set()
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        codes.add(kind.exit_code)
    assert codes | {0, 4, 6, 11, 130} <= table.keys()
    assert all(table.values())


def test_a_fault_of_the_command_line_is_not_taken_for_its_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    from muniment.cli import exits

    monkeypatch.delattr(exits, "TABLE")
    made = generate.generated()
    assert any(fault.startswith("schemas/exit-codes.json: cannot be made") for fault in made.faults)


def test_the_check_as_a_process(checkout: Path) -> None:
    def check(*more: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "muniment.ops.generate", *more]
        return subprocess.run(argv, cwd=checkout, capture_output=True, text=True, timeout=120)

    (checkout / "schemas" / "records" / "channel.pinned.1.json").write_bytes(b"{}\n")
    done = check("--check")
    assert done.returncode == 7
    assert "channel.pinned.1.json" in done.stderr
    assert "a change needs a new version and a CHANGELOG line" in done.stderr
    assert check("--check", "--root", str(checkout / "schemas")).returncode == 2
    assert check().returncode == 2


def test_another_folder_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        generate.run(["--write", "--root", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
