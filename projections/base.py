"""What the projections share: a plain implementation of the protocol, and views of marks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from muniment.domain.policy import Policy
from muniment.domain.refusal import Mark
from muniment.domain.world import Handler, Handles, merge
from muniment.projections.fold import PageHandler
from muniment.projections.model import ReadModel

Rows = Callable[[ReadModel, str, Policy], list[dict[str, Any]]]


class Simple:
    """A projection made of handler tables and one function for its rows."""

    def __init__(
        self,
        name: str,
        version: int,
        question: str,
        *,
        handles: tuple[Handles, ...],
        parts: tuple[str, ...],
        rows: Rows,
        on_page: PageHandler | None = None,
        exempt: bool = False,
    ) -> None:
        self.name = name
        self.version = version
        self.question = question
        self.handles: Mapping[str, tuple[Handler, ...]] = merge(*handles)
        if on_page is not None:
            self.handles = {**self.handles, "*": ()}
        self.on_page = on_page
        self.parts = parts
        self.exempt = exempt
        self._rows = rows

    def rows(self, model: ReadModel, at: str, policy: Policy) -> list[dict[str, Any]]:
        """The view (`projections.fold.Projection.rows`)."""
        return self._rows(model, at, policy)


def mark(found: Mark | None) -> dict[str, Any] | None:
    """Who, when, by which record, why; None stays None."""
    if found is None:
        return None
    return {"position": found.position, "at": found.at, "actor": found.actor, "reason": found.reason}
