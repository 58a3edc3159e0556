"""A store that the command line itself has filled, frozen at four moments, and a runner that keeps what was printed.

Targets are recorded with their absolute place, so every test finds the same place again: it is removed and copied back from
the frozen moment before each test.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from muniment.cli.main import run as run_cli
from muniment.cli.outputs import SCHEMAS

SLOT = "prod/stable/all"
REPORT = '{"verdict":"%s","checks":[{"id":"lint","verdict":"%s","expected":"0","observed":"0"}]}'
VALIDATE = ["sh", "-c", f"printf '{REPORT % ('PASS', 'PASS')}' > \"$0\"/report.json", "{output}"]
REJECT = ["sh", "-c", f"printf '{REPORT % ('FAIL', 'FAIL')}' > \"$0\"/report.json", "{output}"]
COMPILE = ["sh", "-c", 'cp "$0"/* "$1"/', "{input}", "{output}"]
MOMENTS = ("empty", "built", "released", "told")


class Stream(io.TextIOWrapper):
    """Captures text; may say that it is a terminal."""

    def __init__(self, *, tty: bool) -> None:
        super().__init__(
            io.BytesIO(), encoding="utf-8", errors="surrogateescape", newline="", write_through=True
        )
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    @property
    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode("utf-8", "surrogateescape")


class Ran(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The answer, or the error, in JSON; checked against the schema it names."""
        said = json.loads(self.out or self.err)
        jsonschema.validate(said, SCHEMAS[said["schema"]])
        return said


def run(*words: str, tty: bool = False, stdin: bytes = b"") -> Ran:
    """Run one command line in this process."""
    out, err = Stream(tty=tty), Stream(tty=tty)
    given = io.TextIOWrapper(io.BytesIO(stdin))
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr("sys.stdin", given)
        code = run_cli(list(words))
    return Ran(code, out.text, err.text)


def good(*words: str, code: int = 0) -> Ran:
    """Run one that must end so."""
    ran = run(*words)
    assert ran.code == code, f"{words}: expected {code}, got {ran.code}\n{ran.out}\n{ran.err}"
    return ran


def _built(build: str, intake: str, source: str) -> None:
    good("intake", "add", source, "--id", intake, "--origin", f"example:{source}", "--authority", "editors")
    good("build", "start", "--product", "atlas", "--intake", intake, "--id", build)
    good("build", "stage", "validate", "--build", build, "-q", "--", *VALIDATE)
    good("build", "gate", "validate", "--build", build, "--from", "{out.validate}/report.json")
    good("build", "stage", "compile", "--build", build, "-q", "--", *COMPILE)
    good("pack", "create", "{out.compile}", "--build", build, "--epoch", "1", "--compiler", "cp@1")
    good("build", "reproduce", "--build", build, "-q", "--", *COMPILE)
    good("build", "finish", "--build", build)
    good("pack", "register", f"build:{build}")


def tell(root: Path, freeze: Callable[[str], None]) -> None:
    """The story, told by commands, frozen at each moment."""
    for name in ("one", "two"):
        (root / name).mkdir()
        (root / name / "data.txt").write_text(f"edition {name}\n")
    good("init")
    freeze("empty")
    _built("b-1", "in-1", "one")
    good("channel", "declare", "prod/stable", "--cohort", "all")
    freeze("built")
    good("release", "create", "--id", "r-1", "--pack", "build:b-1", "--to", SLOT)
    good("release", "start", "r-1")
    good("release", "promote", "r-1")
    good("activate", SLOT, "--target", "edge", "--name", "edge")
    good("health", "report", SLOT, "--status", "HEALTHY", "--signal", "errors=0")
    good("release", "complete", "r-1")
    good("intake", "add", "two", "--id", "in-2", "--origin", "example:two")
    good("build", "start", "--product", "atlas", "--intake", "in-2", "--id", "b-2")
    good("build", "stage", "validate", "--build", "b-2", "-q", "--", *REJECT)
    good("build", "gate", "validate", "--build", "b-2", "--from", "{out.validate}/report.json", code=7)
    good("build", "finish", "--build", "b-2", code=7)
    _built("b-3", "in-3", "two")
    good("release", "create", "--id", "r-2", "--pack", "build:b-3", "--to", SLOT)
    good("release", "start", "r-2")
    good("channel", "pin", SLOT, "--pack", "build:b-1", "--expires", "3d", "--reason", "hold for audit")
    freeze("released")
    good("release", "promote", "r-2", code=6)
    good("channel", "unpin", SLOT, "--reason", "audit is over")
    good("release", "promote", "r-2")
    good("activate", SLOT, "--target", "edge")
    good("health", "report", SLOT, "--status", "DEGRADED", "--signal", "errors=17")
    good("incident", "declare", "--severity", "SEV2", "--scope", "prod/stable", "--summary", "no answers")
    good("rollback", SLOT, "--trigger", "health_regressed", "--reason", "no answers")
    good("health", "report", SLOT, "--status", "HEALTHY", "--signal", "errors=0")
    good("incident", "note", "i-1", "--text", "it was the data", "--class", "operating-context")
    good("incident", "resolve", "i-1", "--resolution", "rolled back")
    good("incident", "close", "i-1", "--cause", "no test", "--action", "write one,alice,2026-12-01,test_it")
    freeze("told")


@contextlib.contextmanager
def environment(root: Path) -> Iterator[None]:
    """The place of the story: its store, its home, its folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MUNIMENT_SIGN", "XDG_STATE_HOME"):
            patch.delenv(name, raising=False)
        patch.setenv("MUNIMENT_STORE", str(root / "store"))
        patch.setenv("MUNIMENT_HOME", str(root / "home"))
        patch.setenv("COLUMNS", "200")
        patch.chdir(root)
        yield


@pytest.fixture(scope="session")
def moments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `live` is told and each moment is frozen."""
    base = tmp_path_factory.mktemp("story")
    live = base / "live"
    live.mkdir()
    with environment(live):
        tell(live, lambda name: shutil.copytree(live, base / name, symlinks=True) and None)
    return base


Place = Callable[[str], Path]


@pytest.fixture
def place(moments: Path) -> Iterator[Place]:
    """Go to a moment: the folder `live` as it was then, and the environment of it."""
    with contextlib.ExitStack() as stack:

        def go(name: str) -> Path:
            live = moments / "live"
            os.chdir(moments)
            shutil.rmtree(live)
            shutil.copytree(moments / name, live, symlinks=True)
            stack.enter_context(environment(live))
            return live

        yield go


@pytest.fixture
def told(place: Place) -> Path:
    """The end of the story."""
    return place("told")


@pytest.fixture
def released(place: Place) -> Path:
    """r-1 is complete and good, r-2 started, the slot pinned to the first pack."""
    return place("released")


@pytest.fixture
def built(place: Place) -> Path:
    """One registered pack and a declared channel."""
    return place("built")


@pytest.fixture
def cli() -> Callable[..., Ran]:
    """The runner."""
    return run
