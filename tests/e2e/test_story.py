"""The README's first five minutes and the demo: the same commands, run for real in an empty folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from muniment.ops import story
from muniment.store.open import open_log

if TYPE_CHECKING:
    from postgres_server import Place

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MUNIMENT_")}
    binaries = Path(sys.executable).parent
    ours = {"MUNIMENT_HOME": str(tmp_path / "home"), "MUNIMENT_RUNTIME": str(tmp_path / "runtime")}
    return {**kept, **ours, "PATH": f"{binaries}:{kept['PATH']}"}


def test_readme_shows_the_story() -> None:
    block = re.search(r"<!-- ci:story -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert block.group(1) == story.shell(), "run the README's block anew from muniment.ops.story.shell()"


def tell(folder: Path, store: str = "") -> tuple[list[tuple[str, int, int]], str]:
    """Have one shell run every line of the README in an empty folder: (line, exit code it states, exit code), and what was printed.

    Args:
        store: URL of a store, instead of the folder that the README names.
    """
    lines = [line for line in story.shell().splitlines() if line and not line.startswith("#")]
    script = "\n".join(f'{line}\necho "exit=$?" >&3' for line in lines)
    if store:
        script = script.replace("MUNIMENT_STORE=$PWD/first-store", f"MUNIMENT_STORE='{store}'", 1)
    codes = folder / "codes"
    with codes.open("wb") as third:
        done = subprocess.run(
            ["bash", "-c", f"exec 3>&{third.fileno()}\n{script}"],
            cwd=folder,
            env=_environment(folder),
            pass_fds=(third.fileno(),),
            capture_output=True,
            text=True,
            timeout=300,
        )
    found = [int(line.removeprefix("exit=")) for line in codes.read_text().splitlines()]
    stated = [int(match.group(1)) if (match := re.search(r"# exit (\d+)$", line)) else 0 for line in lines]
    return [*zip(lines, stated, found, strict=True)], done.stdout + done.stderr


# What two tellings cannot share: times, ids made up, the target's name (a digest of its path), the log's key, measurements.
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
MADE_UP = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b(?:s|a|at|rb|run)-[a-z2-7]{8}\b|\bfirst-edge-[0-9a-f]{6}\b"
)
OWN = {"log_key_id", "log_public_key", "wall_us", "user_us", "system_us", "max_rss_kib", "silent_ms", "end"}
RING = "runtime-snapshot"  # its packed bytes have times in them


def essence(url: str, folder: Path) -> list[Any]:
    """Every record, as far as two tellings of the story must agree."""
    names: dict[str, str] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("role") == RING:
                return RING
            return {key: plain(item) for key, item in value.items() if key not in OWN}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if not isinstance(value, str):
            return value
        text = TIME.sub("T", value.replace(str(folder), ""))
        return MADE_UP.sub(lambda found: names.setdefault(found[0], f"<{len(names)}>"), text)

    with contextlib.closing(open_log(url, read_only=True)) as log:
        return [plain(json.loads(body)) for _, body in log.read()]


def test_every_line_of_the_readme_ends_as_it_says_on_a_folder_and_on_a_server(
    tmp_path: Path, pg_url: str
) -> None:
    """And both logs hold the same records: types, refusals, reasons, digests of packs and evidence, positions."""
    essences = []
    for name, store in (("folder", ""), ("server", pg_url)):
        here = tmp_path / name
        here.mkdir()
        told, printed = tell(here, store)
        assert [] == [(line, stated, code) for line, stated, code in told if stated != code], printed
        essences.append(essence(store or str(here / "first-store"), here))
        assert not store or not (here / "first-store").exists()
    folder, server = essences
    assert len(folder) > 100
    assert sum(record["type"] == "command.refused/1" for record in folder) >= 3
    assert folder == server


def test_three_commands_of_the_readme_make_a_store_for_a_team(tmp_path: Path, postgres_place: Place) -> None:
    block = re.search(r"<!-- ci:team -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    made, *lines = block.group(1).splitlines()
    assert (made, len(lines)) == ("createdb releases", 2)
    with postgres_place.server() as server:
        server.execute("CREATE DATABASE releases")  # as `createdb` does, which not every set of programs has
        to = {"PGHOST": str(server.socket_dir), "PGPORT": str(server.port), "PGUSER": "postgres"}
        done = subprocess.run(
            ["bash", "-e", "-c", "\n".join([*lines, "muniment verify store"])],
            cwd=tmp_path,
            env={**_environment(tmp_path), **to},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert server.execute("SELECT count(*) FROM atlas.records", dbname="releases") == [(2,)]
    assert "schema=atlas" in done.stdout
    assert "verified" in done.stdout


def test_the_demo_on_a_server_store_finds_the_flipped_byte_in_a_copy(tmp_path: Path, pg_url: str) -> None:
    run = lambda: subprocess.run(  # noqa: E731
        ["muniment", "demo"],
        cwd=tmp_path,
        env={**_environment(tmp_path), "MUNIMENT_STORE": pg_url},
        capture_output=True,
        text=True,
        timeout=300,
    )
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.rsplit("$ muniment verify store", 1)[1]
    assert "(exit 7)" in last
    assert re.search(r"#75\b", last), "the record that holds the pin is named"
    again = run()
    assert (again.returncode, "exists" in again.stderr) == (5, True)
    for path in ("muniment-edge", "muniment-tampered"):
        shutil.rmtree(tmp_path / path)
    again = run()
    assert (again.returncode, "schema=muniment exists" in again.stderr) == (5, True), (
        "the store is still there"
    )


def test_demo_tells_the_whole_story_and_finds_the_flipped_byte(tmp_path: Path) -> None:
    run = lambda *words: subprocess.run(  # noqa: E731
        ["muniment", *words],
        cwd=tmp_path,
        env=_environment(tmp_path) | {"MUNIMENT_RUNTIME": str(tmp_path / "rings"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    done = run("demo", "--store", "demo-store")
    assert done.returncode == 0, done.stdout + done.stderr
    for chapter in story.STORY:
        for step in chapter.steps:
            assert f"$ muniment {step.command}\n" in done.stdout
    last = done.stdout.rsplit("$ muniment verify store", 1)[1]
    assert "(exit 7)" in last
    assert re.search(r"#?\b75\b", last), "the record that holds the pin is named"
    assert not [*tmp_path.glob("rings*"), *tmp_path.glob("muniment-demo-*")], "its rings are gone with it"
    again = run("demo", "--store", "demo-store")
    assert again.returncode == 5
    assert "exists" in again.stderr


@pytest.mark.parametrize("words", [["demo", "--path", "extra"], ["demo", "--unknown"]])
def test_demo_refuses_what_it_does_not_know(tmp_path: Path, words: list[str]) -> None:
    done = subprocess.run(
        ["muniment", *words],
        cwd=tmp_path,
        env=_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
