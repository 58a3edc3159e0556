"""`demo`: the scripted story on a fresh store, each command printed before it runs."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from muniment.cli.framework import verb
from muniment.cli.results import Result
from muniment.cli.settings import Settings

KEPT = ("MUNIMENT_STORE", "MUNIMENT_SIGN", "MUNIMENT_EVIDENCE", "MUNIMENT_RUNTIME")  # the demo has its own
PLACE = (3, 4, 8, 9)  # the store, the right to it, the server or the host is not there: no fault of the story


@verb(
    "demo",
    examples=[
        "muniment demo --store demo-store",
        "muniment demo --store postgresql://db/test?schema=demo",
        "ls $(muniment demo --path)",
    ],
)
@click.option("--path", "only_path", is_flag=True, help="Print the folder of the demo's content and end.")
def demo(settings: Settings, only_path: bool) -> Result:
    """Tell the whole story on a fresh store, in under a minute.

    Built, gated, released, refused, degraded, rolled back, an incident, proof; then one flipped byte, found, on a copy. A command
    that ends otherwise than the story says ends the demo with exit 1.
    """
    from muniment.app import demo as story
    from muniment.store.open import name_of
    from muniment.store.postgres_url import is_postgres

    if only_path:
        path = str(story.content())
        return Result("demo.path/1", {"path": path}, lines=[path], brief=path)
    store = name_of(settings.url)
    url = settings.url if is_postgres(settings.url) else store
    edge, copy = story.places(url)
    began = time.monotonic()
    kept = {name: os.environ.pop(name, None) for name in KEPT}
    os.environ["MUNIMENT_STORE"] = url
    try:
        # two demos at once do not meet, and the ring that stops in the story is gone with it
        with TemporaryDirectory(prefix="muniment-demo-") as runtime:
            os.environ["MUNIMENT_RUNTIME"] = runtime
            told = _tell(url, store, edge, copy)
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    seconds = int(time.monotonic() - began)
    lines = [
        "",
        f"the story is told: {told} commands in {seconds} s, each ended as it should",
        f"  store  {store}",
        f"  look   MUNIMENT_STORE={shlex.quote(store)} muniment history list",
    ]
    data = {
        "store": store,
        "target": str(edge),
        "tampered": str(copy),
        "commands": told,
        "seconds": seconds,
    }
    return Result("demo/1", data, lines=lines, brief=store)


def _tell(url: str, store: str, edge: Path, copy: Path) -> int:
    from muniment.app import demo as story
    from muniment.cli.output import write
    from muniment.ops.story import STORY, Step

    write(f"$ export MUNIMENT_STORE={shlex.quote(store)} DEMO={story.content()} EDGE={edge}")
    told = 0
    for number, chapter in enumerate(STORY, 1):
        write(f"\n# {number}. {chapter.title}")
        for step in chapter.steps:
            _run(step, edge)
            told += 1
    write(f"\n# {len(STORY) + 1}. One byte of one record, flipped on a copy: found, and named")
    path, offset = story.flip_one_byte(url, copy)
    write(f"$ # {path.name} of the copy, byte {offset}: one bit changed")
    os.environ["MUNIMENT_STORE"] = str(copy)
    _run(Step("verify store", 7), edge)
    return told + 1


def _run(step: object, edge: Path) -> None:
    from muniment.app.demo import words
    from muniment.cli.main import run
    from muniment.cli.output import write
    from muniment.domain.errors import MunimentError, UnavailableError
    from muniment.ops.story import Step

    assert isinstance(step, Step)
    write(f"\n$ muniment {step.command}")
    code = run(words(step.command, edge))
    if step.exit_code:
        write(f"(exit {code})")
    if code in PLACE and code != step.exit_code:
        raise UnavailableError(
            f"the story stopped at: muniment {step.command}",
            code="demo.stopped",
            hint="the error above says what is in the way; then begin with another --store",
            found=f"exit {code}",
        )
    if code != step.exit_code:
        raise MunimentError(
            f"the story went otherwise at: muniment {step.command}",
            code="demo.otherwise",
            hint="this is our bug: please report it with the output above",
            expected=f"exit {step.exit_code}",
            found=f"exit {code}",
        )
