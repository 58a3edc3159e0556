"""`verify store`: recompute everything from the stored bytes and name what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click
from muniment.cli.framework import Noun
from muniment.cli.results import Result
from muniment.cli.settings import Settings
from muniment.cli.text import counted

verify = Noun("verify", "Check the store: chain, digests, signatures.", ["muniment verify store"])


@verify.verb(
    "store",
    uses=("fields",),
    examples=[
        "muniment verify store",
        "muniment verify store --decisions --against 1204:$ROOT",
        "muniment verify store --new",
        "muniment verify store -o json",
    ],
)
@click.option(
    "--against",
    multiple=True,
    metavar="SIZE:ROOT",
    help="A head known from elsewhere; the log must contain it.",
)
@click.option("--decisions", is_flag=True, help="Also make every decision again from its facts, and compare.")
@click.option(
    "--new",
    is_flag=True,
    help="Only what was appended since the last verification here; says what it left out.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Processes that share the work; by default one a CPU.",
)
@click.option("--no-remember", is_flag=True, help="Do not keep the head as the last one seen.")
def store(
    settings: Settings,
    against: tuple[str, ...],
    decisions: bool,
    new: bool,
    processes: int | None,
    no_remember: bool,
) -> Result:
    """Check every record, column, signature and file; nothing is written to the store.

    --new checks the records after those that passed here last, and does not look at the others again.

    Exit 7 if anything is wrong, 8 if something could not be looked at, 0 only if every check passed.
    """
    from muniment.app.session import evidence_alone
    from muniment.app.verify import Anchor, verify_store
    from muniment.app.verify_new import remember
    from muniment.domain.errors import UsageError

    if new and (against or decisions or processes is not None):
        raise UsageError(
            "--new looks at new records only",
            code="verify.new",
            hint="leave out --new to compare heads, to decide again, or to share the work",
        )
    anchors = [Anchor(*anchor_of(text), f"--against {text[:30]}") for text in against]
    bar = settings.progress("verified")
    bar.unit = "records"
    try:
        again = _again(settings) if decisions else None
        with evidence_alone(settings.url) as evidence:
            report = verify_store(
                settings.url, evidence=evidence, against=anchors, decisions=again, progress=bar
            )
    finally:
        bar.close()
    said = report.as_json()
    notes = []
    if report.ok and not no_remember:
        from muniment.app.home import remember_head

        notes.append(remember_head(report.store_id, report.size, report.root))
        notes.append(remember(report))
    data = {
        "ok": report.ok,
        "head": said["head"],
        "provable_prefix": said["provable_prefix"],
        "touched": said["touched"],
        "information": said["information"],
        "checks": said["data"],
    }
    return Result(
        "verify.store/1",
        data,
        report.size,
        list(lines(data, report.exit_code, verbose=settings.verbose)),
        brief=report.root,
        notes=[line for line in notes if line],
        exit_code=report.exit_code,
    )


def _again(settings: Settings) -> Callable[[], Iterator[tuple[int, str, str, str]]]:
    def every() -> Iterator[tuple[int, str, str, str]]:
        from muniment.app import redecide

        with settings.open() as session:
            yield from redecide.every(session.log)

    return every


def anchor_of(text: str) -> tuple[int, str]:
    """`SIZE:ROOT`, read.

    Raises:
        UsageError: another shape.
    """
    from muniment.domain.errors import UsageError

    size, _, root = text.partition(":")
    if not (
        size.isascii()
        and size.isdigit()
        and len(size) < 16
        and len(root) == 64
        and set(root) <= set("0123456789abcdef")
    ):
        raise UsageError(f"not a head: {text[:80]!r}", code="verify.against", expected="SIZE:<64 hex digits>")
    return int(size), root


def lines(data: dict[str, Any], code: int, *, verbose: bool) -> list[str]:
    """What is wrong first, with position, expected, found and what it touches; then the head."""
    head, checks = data["head"], data["checks"]
    word = {0: "verified", 7: "WRONG", 8: "not verified"}[code]
    counts = {
        verdict: sum(row["verdict"] == verdict for row in checks) for verdict in ("pass", "fail", "skipped")
    }
    made = f"{counted(counts['pass'], 'check')} passed, {counts['fail']} failed, {counts['skipped']} could not be made"
    out = [f"{word}  store {head['store_id'] or '(unknown)'}, {counted(head['size'], 'record')}: {made}"]
    if left := data["information"].get("not_looked_at_again"):
        first, last = (data["information"]["looked_at"][end] for end in ("first", "last"))
        out = [f"{word} ONLY WHAT IS NEW  {_span(first, last)}: {made}"]
        full = f"{counted(left['full'], 'record')} were verified in full at {left['at']}"
        out.append(f"  left out {_span(left['first'], left['last'])}: not looked at again; {full}")
    unlooked = counts["skipped"] and not counts["pass"] and not counts["fail"]
    if unlooked:
        why = dict.fromkeys(row["detail"] for row in checks if row["detail"])
        out.append(f"  skipped  all of them: {'; '.join(why) or 'nothing could be read'}")
    for row in checks if not unlooked or verbose else ():
        if row["verdict"] == "fail":
            out.append(f"  fail     {row['id']}: {row['claim']}  ({counted(row['count'], 'finding')})")
            out += [_finding(item) for item in row["findings"]]
        elif row["verdict"] == "skipped":
            out.append(f"  skipped  {row['id']}: {row['detail'] or row['claim']}")
        elif verbose:
            out.append(f"  {row['verdict']:<8} {row['id']}: {row['detail'] or row['claim']}")
    touched = {name: items for name, items in data["touched"].items() if items}
    out += [
        f"  touches  {name}: {', '.join(str(item) for item in items[:10])}" for name, items in touched.items()
    ]
    out += [f"  root     {head['root']}"] if head["root"] else []
    if code == 7:
        out.append(f"  sound    the first {counted(data['provable_prefix'], 'record')}")
        if _evidence_elsewhere(checks):
            out.append(
                "  look     does the evidence lie elsewhere? (evidence= in the store's URL, MUNIMENT_EVIDENCE)"
            )
        out.append("  next     keep a copy of the store as it is, then restore it from a copy that verifies")
    elif code:  # nothing is known to be wrong, so nothing is to be restored
        out.append(
            "  next     let this user read what could not be read (permission, mount, lock), then verify again"
        )
    return out


def _evidence_elsewhere(checks: list[dict[str, Any]]) -> bool:
    """Tell whether nothing is wrong but that files of evidence are missing: another place is likelier than a loss."""
    failed = [row for row in checks if row["verdict"] == "fail"]
    findings = [item for row in failed for item in row["findings"]]
    return all(row["id"].startswith("evidence.") for row in failed) and any(
        item.get("detail", "").startswith("missing: ") for item in findings
    )


def _span(first: int, last: int) -> str:
    return f"records {first} to {last}" if first <= last else "no records"


def _finding(item: dict[str, Any]) -> str:
    where = f"#{item['position']}" if item.get("position") is not None else ""
    where = " ".join(filter(None, [where, item.get("field", "")]))
    text = f"           {where}: expected {item['expected']}, found {item['found']}"
    return text + (f" ({item['detail']})" if item.get("detail") else "")
