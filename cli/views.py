"""Lists and single objects out of the projections, as of now or as of a position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from muniment.cli.results import Rows
from muniment.cli.settings import Settings
from muniment.cli.text import instant, visible
from muniment.domain.errors import NotFoundError

if TYPE_CHECKING:
    from muniment.app.reading import Reader
    from muniment.app.session import Session
    from muniment.projections.model import ReadModel


class View(NamedTuple):
    """A read model as of a position, with the instant at which expiries are evaluated.

    Attributes:
        rows: what the projection named says.
        notes: why a memo was not used, if so.
    """

    model: ReadModel
    as_of: int
    at: str
    rows: list[dict[str, Any]]
    notes: tuple[str, ...]


RowsOf = Callable[[View], list[dict[str, Any]]]


def reading(settings: Settings, session: Session, projection: str) -> View:
    """The model now, or at `--as-of`; there the expiries are those of that moment (what was known then).

    Raises:
        NotFoundError: `--as-of` names nothing. InvalidError: the log holds a record this version does not know.
    """
    from muniment.cli.refs import reader

    looking = reader(settings, session)
    return _view(settings, looking, looking.rows(projection)["data"])


def _view(settings: Settings, looking: Reader, rows: list[dict[str, Any]]) -> View:
    return View(looking.model, looking.until, looking.at, rows, looking.notes(settings.verbose))


def listing(
    settings: Settings,
    schema: str,
    projection: str,
    *,
    columns: Sequence[str],
    key: str,
    empty: str,
    part: str = "",
    rows: RowsOf | None = None,
) -> Rows:
    """A list verb over a projection.

    Args:
        part: the part of the model whose ids, in their order, are the rows: then a page costs what is on it.
        rows: makes the rows, if it is not the projection that does.
    """
    from muniment.cli import select
    from muniment.cli.refs import reader

    with settings.open() as session:
        looking = reader(settings, session)
        if not part or settings.where or settings.limit is None:
            view = _view(settings, looking, [] if rows else looking.rows(projection)["data"])
            listed = rows(view) if rows else view.rows
            return Rows(schema, listed, columns, key, view.as_of, empty=empty, notes=view.notes)
        ids = [{key: id_} for id_ in getattr(looking.model, part)]
        chosen, next_, omitted = select.page(ids, key, settings.limit, settings.cursor)
        looking.narrow(part, [item[key] for item in chosen])
        view = _view(settings, looking, [] if rows else looking.rows(projection)["data"])
        listed = rows(view) if rows else view.rows
    return Rows(
        schema,
        listed,
        columns,
        key,
        view.as_of,
        next=next_,
        omitted=omitted,
        empty=empty,
        notes=view.notes,
        paged=True,
    )


def one(
    settings: Settings,
    session: Session,
    projection: str,
    key: str,
    name: str,
    *,
    rows: RowsOf | None = None,
) -> tuple[dict[str, Any], int]:
    """The row of that name, and the position it is as of.

    Raises:
        NotFoundError: there is none; the message names the nearest.
    """
    from muniment.cli.refs import reader

    looking = reader(settings, session)
    if rows is None:
        if (found := looking.row(key, name)) is not None:
            return found, looking.until
        names = list(getattr(looking.model, projection))
    else:
        listed = rows(_view(settings, looking, []))
        for row in listed:
            if row[key] == name:
                return row, looking.until
        names = [str(row[key]) for row in listed]
    from muniment.app.reading import near_names

    near = near_names(name, names, 3)
    raise NotFoundError(
        f"no {key} {name[:100]} in this store" + (f" as of #{looking.until}" if settings.as_of else ""),
        code=f"{key}.unknown",
        hint=f"did you mean {', '.join(near)}?" if near else f"muniment {key} list",
    )


def mark_line(settings: Settings, mark: dict[str, Any] | None, label: str = "by") -> str:
    """`  by     alice, 2026-09-28 11:02 UTC, "hold for audit", record #17990`."""
    if mark is None:
        return f"  {label:<6} -"
    when = instant(mark["at"], local=settings.local) if settings.terminal else mark["at"]
    said = [
        mark["actor"],
        when,
        f'"{visible(mark["reason"])}"' if mark["reason"] else "",
        f"record #{mark['position']}",
    ]
    return f"  {label:<6} " + ", ".join(filter(None, said))
