"""The demo's tools as a stage runs them: processes, files, exit codes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from muniment.app.gate_report import read_report

DEMO = Path(__file__).parents[2] / "ops" / "demo"
EDITIONS = ("input-v1", "input-v2-bad", "input-v2")


def run(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-B", str(DEMO / "tools" / f"{tool}.py"), *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def edited(tmp_path: Path, file: str, old: str, new: str) -> Path:
    """A copy of edition 1 with one thing changed."""
    folder = tmp_path / "edited"
    shutil.copytree(DEMO / "input-v1", folder)
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder


def compiled(edition: str, target: Path) -> Path:
    done = run("compile", DEMO / edition, target)
    assert done.returncode == 0, done.stderr
    return target


def test_the_content_is_small_and_whole() -> None:
    files = [file for file in DEMO.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 60_000
    for edition in EDITIONS:
        assert {"SOURCE.md", "aliases.csv", "countries.csv"} == {
            file.name for file in (DEMO / edition).iterdir()
        }


@pytest.mark.parametrize(
    ("edition", "verdict", "failed"),
    [
        ("input-v1", "PASS", set()),
        ("input-v2", "PASS", set()),
        (
            "input-v2-bad",
            "FAIL",
            {"countries.complete", "countries.alpha2_unique", "aliases.country_known"},
        ),
    ],
)
def test_the_gate_reads_the_verdict_from_the_report(
    tmp_path: Path, edition: str, verdict: str, failed: set[str]
) -> None:
    report = tmp_path / "out" / "report.xml"
    done = run("validate", DEMO / edition, report)
    assert done.returncode == 0, "it ran; what it found is in the report"
    judged = read_report(report)
    assert (verdict, "junit") == (judged.verdict, judged.format)
    assert failed == {name.rpartition("atlas.input.")[2].rpartition("::")[2] for name in judged.cases_failed}


@pytest.mark.parametrize(
    ("file", "old", "new", "case"),
    [
        ("countries.csv", "AR,ARG", "ar,ARG", "countries.codes_well_formed"),
        ("countries.csv", "AUT,040", "AUT,032", "countries.numeric_unique"),
        ("countries.csv", "AUT,040", "ARG,040", "countries.alpha3_unique"),
        ("countries.csv", "Austria", "Argentina", "countries.name_unique"),
        ("countries.csv", "Vienna,Europe", "Vienna,Erewhon", "countries.region_known"),
        ("countries.csv", "Vienna,Europe", "Vienna", "countries.shape"),
        ("countries.csv", "Vienna,Europe", "Vienna,Europe,more", "countries.shape"),
        ("countries.csv", "Vienna,", " Vienna,", "countries.shape"),
        ("aliases.csv", "Holland,NL", "Japan,NL", "aliases.not_shadowing"),
        ("aliases.csv", "Holland,NL", "USA,NL", "aliases.unique"),
        ("aliases.csv", "Holland,NL,short", "Holland,NL,odd", "aliases.kind_known"),
        ("aliases.csv", "Holland,NL,short", ",NL,short", "aliases.complete"),
    ],
)
def test_each_check_finds_its_fault(tmp_path: Path, file: str, old: str, new: str, case: str) -> None:
    report = tmp_path / "report.xml"
    assert run("validate", edited(tmp_path, file, old, new), report).returncode == 0
    judged = read_report(report)
    assert judged.verdict == "FAIL"
    assert any(case in name for name in judged.cases_failed), judged.cases_failed


def test_an_input_without_rows_or_source_does_not_pass(tmp_path: Path) -> None:
    folder = tmp_path / "input"
    shutil.copytree(DEMO / "input-v1", folder)
    (folder / "countries.csv").write_text("alpha2,alpha3,numeric,name,capital,region\n", encoding="utf-8")
    (folder / "SOURCE.md").write_text("\n", encoding="utf-8")
    run("validate", folder, tmp_path / "report.xml")
    failed = " ".join(read_report(tmp_path / "report.xml").cases_failed)
    assert "countries.some" in failed
    assert "source.named" in failed


@pytest.mark.parametrize("damage", ["absent", "header", "bytes"])
def test_what_cannot_be_read_leaves_no_report(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "input"
    shutil.copytree(DEMO / "input-v1", folder)
    if damage == "absent":
        (folder / "aliases.csv").unlink()
    elif damage == "header":
        (folder / "aliases.csv").write_text("alias,alpha2\n", encoding="utf-8")
    else:
        (folder / "aliases.csv").write_bytes(b"alias,alpha2,kind\n\xff,NL,short\n")
    report = tmp_path / "report.xml"
    report.write_text("<testsuite/>", encoding="utf-8")
    done = run("validate", folder, report)
    assert done.returncode == 2
    assert "cannot validate" in done.stderr
    assert not report.exists(), "an old passing report must not stay in place"


@pytest.mark.parametrize("edition", ["input-v1", "input-v2"])
def test_compile_gives_the_same_bytes_again(tmp_path: Path, edition: str) -> None:
    shuffled = tmp_path / "shuffled"
    shutil.copytree(DEMO / edition, shuffled)
    for name in ("countries.csv", "aliases.csv"):
        header, *rows = (shuffled / name).read_text(encoding="utf-8").splitlines()
        (shuffled / name).write_text("\n".join([header, *reversed(rows)]) + "\n", encoding="utf-8")
    one, two, other = compiled(edition, tmp_path / "1"), compiled(edition, tmp_path / "2"), tmp_path / "3"
    assert run("compile", shuffled, other).returncode == 0
    names = sorted(file.name for file in one.iterdir())
    assert names == ["SOURCE.md", "countries.tsv", "lookup.json"]
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes() == (other / name).read_bytes()


def test_compile_refuses_two_meanings_and_a_used_folder(tmp_path: Path) -> None:
    assert run("compile", DEMO / "input-v2-bad", tmp_path / "bad").returncode == 1
    assert not (tmp_path / "bad").exists()
    ambiguous = edited(tmp_path, "aliases.csv", "Holland,NL", "Japan,NL")
    assert "'Japan' leads to JP and to NL" in run("compile", ambiguous, tmp_path / "ambiguous").stderr
    assert run("compile", tmp_path / "absent", tmp_path / "absent-out").returncode == 2
    once = compiled("input-v1", tmp_path / "once")
    before = {file.name: file.read_bytes() for file in once.iterdir()}
    assert run("compile", DEMO / "input-v2", once).returncode == 2
    assert before == {file.name: file.read_bytes() for file in once.iterdir()}


def test_edition_1_is_healthy(tmp_path: Path) -> None:
    done = run("probe", compiled("input-v1", tmp_path / "pack"))
    report = json.loads(done.stdout)
    assert (done.returncode, report["status"], report["signals"]) == (0, "HEALTHY", [])
    assert report["asked"] >= 10


def test_edition_2_passes_its_gate_and_fails_a_user(tmp_path: Path) -> None:
    pack = compiled("input-v2", tmp_path / "pack")
    done = run("probe", pack)
    report = json.loads(done.stdout)
    assert (done.returncode, report["status"], report["wrong"]) == (1, "DEGRADED", 2)
    assert {"name": "lookup Nur-Sultan", "expected": "KZ", "observed": "no answer"} in report["signals"]
    assert run("probe", pack, "Nur-Sultan").returncode == 1
    assert "Suva" in run("probe", pack, "fiji").stdout


@pytest.mark.parametrize("damage", ["empty", "json", "format"])
def test_a_pack_that_cannot_be_read_is_unhealthy(tmp_path: Path, damage: str) -> None:
    pack = compiled("input-v1", tmp_path / "pack")
    lookup = pack / "lookup.json"
    if damage == "empty":
        lookup.unlink()
    elif damage == "json":
        lookup.write_bytes(lookup.read_bytes()[:100])
    else:
        lookup.write_text('{"format": "atlas-lookup/2", "names": {}}', encoding="utf-8")
    done = run("probe", pack)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (1, "UNHEALTHY")
    assert run("probe", pack, "Vienna").returncode == 1


def test_every_answer_names_the_pack(tmp_path: Path) -> None:
    pack = compiled("input-v1", tmp_path / "pack")
    (pack / "runtime-pack-manifest.json").write_text('{"runtime_pack_id": "sha256:0f"}', encoding="utf-8")
    assert json.loads(run("probe", pack).stdout)["pack"] == "sha256:0f"
    assert json.loads(run("probe", pack, "WIEN").stdout)["pack"] == "sha256:0f"


@pytest.mark.parametrize("tool", ["validate", "compile", "probe"])
def test_wrong_usage_is_2(tool: str) -> None:
    assert run(tool).returncode == 2
