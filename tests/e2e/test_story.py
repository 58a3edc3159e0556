"""The README's first five minutes and the demo: the same commands, run for real in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from muniment.ops import story

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MUNIMENT_")}
    binaries = Path(sys.executable).parent
    return {**kept, "PATH": f"{binaries}:{kept['PATH']}", "MUNIMENT_HOME": str(tmp_path / "home")}


def test_readme_shows_the_story() -> None:
    block = re.search(r"<!-- ci:story -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert block.group(1) == story.shell(), "run the README's block anew from muniment.ops.story.shell()"


def test_every_line_of_the_readme_ends_as_it_says(tmp_path: Path) -> None:
    """One shell runs every line; after each it prints the exit code, which must be the one the line states."""
    lines = [line for line in story.shell().splitlines() if line and not line.startswith("#")]
    script = "\n".join(f'{line}\necho "exit=$?" >&3' for line in lines)
    codes = tmp_path / "codes"
    with codes.open("wb") as third:
        done = subprocess.run(
            ["bash", "-c", f"exec 3>&{third.fileno()}\n{script}"],
            cwd=tmp_path,
            env=_environment(tmp_path),
            pass_fds=(third.fileno(),),
            capture_output=True,
            text=True,
            timeout=300,
        )
    found = [int(line.removeprefix("exit=")) for line in codes.read_text().splitlines()]
    expected = [int(match.group(1)) if (match := re.search(r"# exit (\d+)$", line)) else 0 for line in lines]
    assert [*zip(lines, expected, strict=True)] == [*zip(lines, found, strict=True)], (
        done.stdout + done.stderr
    )


def test_demo_tells_the_whole_story_and_finds_the_flipped_byte(tmp_path: Path) -> None:
    run = lambda *words: subprocess.run(  # noqa: E731
        ["muniment", *words],
        cwd=tmp_path,
        env=_environment(tmp_path),
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
