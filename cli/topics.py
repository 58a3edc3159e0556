"""`help TOPIC`, `completion SHELL`, and the first screen."""

from __future__ import annotations

import click
from muniment.cli import exits
from muniment.cli.framework import WIDTH, verb
from muniment.cli.results import Text
from muniment.cli.settings import Settings
from muniment.cli.verbs import TABLE

FIRST_SCREEN = """\
muniment: releases with evidence. Every decision, refusal and switch is a record in one verifiable log.

  operate   intake  build  pack  channel  release  activate  active  health
            validate  describe  dot  run
  respond   rollback  snapshot  incident  doctor
  audit     history  explain  tour  evidence-summary  verify

  start     muniment init, then muniment demo --store demo for the whole story
  more      muniment --help, muniment help exit-codes|environment|references|time"""

ENVIRONMENT = """\
MUNIMENT_STORE   the store, if --store is absent: a folder, sqlite:///PATH, or
                 postgresql://[USER@]HOST[:PORT]/DATABASE[?schema=NAME&sslmode=…] (default ./.muniment)
MUNIMENT_EVIDENCE  where evidence lies if not beside the log: a folder, file:///PATH or s3://BUCKET/PREFIX
MUNIMENT_HOME    keys, heads seen, memos, work of server stores (default $XDG_STATE_HOME/muniment,
                 ~/.local/state/muniment)
MUNIMENT_RUNTIME  where rings of running pipelines lie (default $XDG_RUNTIME_DIR/muniment, /dev/shm/muniment-UID)
MUNIMENT_SPEC    the spec of a pipeline, if --spec is absent
MUNIMENT_SIGN    the key that signs what you do, if --sign is absent
PGPASSWORD, PGSSLROOTCERT …  as libpq reads them; a password is better there, or in ~/.pgpass, than in a URL
NO_COLOR, TERM   output carries no colour; TERM=dumb also draws no progress line"""

REFERENCES = """\
slot       ENV/CHANNEL/COHORT, such as prod/stable/eu; ENV/CHANNEL if it has one cohort
scope      *, ENV, ENV/CHANNEL or a slot
pack       sha256:<64 hex>, pack:<prefix> or 6 and more hex digits, build:b-1, release:r-1
record     #18422 (quote it in a shell: '#18422'), or its id
moment     for --as-of: #18422, 18422, a time, or an age
any other  explain and tour also take the id of a build, release, incident, rollback or activation"""

TIME = """\
RFC 3339 with Z or an offset   2026-11-20T09:00:00Z, 2026-11-20T10:00:00+01:00
age                            30s 10m 2h 3d 1w: before now for --since, --until and --as-of, from now for --expires
day                            2026-11-20 is its first moment in UTC (--since, --until, --as-of)

Times are shown in UTC unless --local is given, to the minute on a terminal and in full when piped. Order is
the position in the log, never a clock."""

TOPICS = {"environment": ENVIRONMENT, "references": REFERENCES, "time": TIME}


@verb(
    "help",
    examples=["muniment help exit-codes", "muniment help references", "muniment help release promote"],
)
@click.argument("words", metavar="[TOPIC | COMMAND…]", nargs=-1)
@click.pass_context
def help_(context: click.Context, settings: Settings, words: tuple[str, ...]) -> Text:  # noqa: ARG001
    """Topics: exit-codes, environment, references, time.

    `help all` lists every command; `help COMMAND` is the same as COMMAND --help.
    """
    if not words:
        return Text(FIRST_SCREEN)
    if words == ("exit-codes",):
        return Text(exits.text())
    if words == ("all",):
        return Text("\n".join(all_commands(context)))
    if len(words) == 1 and words[0] in TOPICS:
        return Text(TOPICS[words[0]])
    return Text(command_help(context, words))


def command_help(context: click.Context, words: tuple[str, ...]) -> str:
    """The help of a command.

    Raises:
        click.UsageError: there is no such command or topic; the nearest are named.
    """
    from difflib import get_close_matches

    here = context.find_root()
    for word in words:
        group = here.command
        found = group.get_command(here, word) if isinstance(group, click.Group) else None
        if found is None:
            known = [*group.list_commands(here)] if isinstance(group, click.Group) else []
            known += [*TOPICS, "exit-codes", "all"] if here.parent is None else []
            near = get_close_matches(word, known, n=3, cutoff=0.5)
            meant = f" Did you mean: {', '.join(near)}?" if near else ""
            raise click.UsageError(f"no command or topic {word[:60]!r}.{meant}")
        here = click.Context(
            found, info_name=word, parent=here, terminal_width=WIDTH, max_content_width=WIDTH
        )
    return here.get_help()


def all_commands(context: click.Context) -> list[str]:
    """Every command with the first line of its help."""
    root = context.find_root()
    lines = []
    for name in TABLE:
        found = root.command.get_command(root, name) if isinstance(root.command, click.Group) else None
        if isinstance(found, click.Group):
            inner = click.Context(found, info_name=name, parent=root)
            for child in found.list_commands(inner):
                command = found.get_command(inner, child)
                assert command is not None
                lines.append(f"{name + ' ' + child:<26}{command.get_short_help_str(70)}")
        elif found is not None:
            lines.append(f"{name:<26}{found.get_short_help_str(70)}")
    return lines


@verb("completion", examples=['eval "$(muniment completion bash)"', "muniment completion fish | source"])
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(settings: Settings, shell: str) -> Text:  # noqa: ARG001
    """Print a completion script for a shell."""
    from click.shell_completion import get_completion_class
    from muniment.cli.main import root

    maker = get_completion_class(shell)
    assert maker is not None
    return Text(maker(root, {}, "muniment", "_MUNIMENT_COMPLETE").source())
