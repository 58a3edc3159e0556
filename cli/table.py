"""Aligned tables on a terminal, tab-separated lines when piped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from muniment.cli.text import clip, pad, width

GAP = 2
NARROWEST = 12  # a column is not cut below this


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], columns: int) -> Iterator[str]:
    """Lines of a table; the widest columns are cut if the terminal has fewer columns."""
    sizes = [max(width(row[i]) for row in [header, *rows]) for i in range(len(header))]
    over = sum(sizes) + GAP * (len(sizes) - 1) - columns
    while over > 0 and max(sizes) > NARROWEST:
        widest = sizes.index(max(sizes))
        cut = min(over, sizes[widest] - max(NARROWEST, sorted(sizes)[-2] if len(sizes) > 1 else 0) or 1)
        sizes[widest] -= cut
        over -= cut
    for row in [header, *rows]:
        cells = [pad(clip(text, size), size + GAP) for text, size in zip(row, sizes, strict=True)]
        yield "".join(cells).rstrip()


def tabbed(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with tabs, nothing cut, no header: `cut`, `awk` and `wc -l` read them as they are."""
    for row in rows:
        yield "\t".join(row)


def pairs(members: Sequence[tuple[str, str]], *, terminal: bool) -> Iterator[str]:
    """Name and value, one a line."""
    size = max((width(name) for name, _ in members), default=0)
    for name, value in members:
        yield f"{pad(name, size + GAP)}{value}".rstrip() if terminal else f"{name}\t{value}"
