"""How a run went: for the caller, and as the payload of its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from muniment.app.tuning import Applied
from muniment.ring.executor import Failure
from muniment.ring.spec import Spec


@dataclass(slots=True)
class Report:
    """How a run went; `failure` is None if nothing stopped it.

    Attributes:
        offset: of the input, behind the last line taken.
        unrecorded: heartbeats and snapshots that the store did not take.
        end_unrecorded: why the end is not on record, "" if it is.
    """

    run: str
    spec: Spec
    outcome: str
    ring_path: str = ""
    source: str = ""
    resume_from: int | None = None
    lines: int = 0
    offset: int = 0
    dropped: int = 0
    stages: Sequence[dict[str, object]] = ()
    seconds: float = 0.0
    tuning: Sequence[Applied] = ()
    left_over: str = ""
    unrecorded: int = 0
    end_unrecorded: str = ""
    failure: Failure | None = None

    def ended(self) -> dict[str, Any]:
        """The payload of `runtime.run_ended/1`."""
        failure = self.failure
        error = failure.error if failure else None
        sinks = [stage for stage in self.stages if "committed" in stage]
        return {
            "run": self.run,
            "spec": self.spec.name,
            "outcome": self.outcome,
            "stage": failure.stage if failure else "",
            "sequence": str(failure.sequence) if failure else "",
            "code": getattr(error, "code", type(error).__name__ if error else ""),
            "error": " ".join(str(error).split())[:1000] if error else "",
            "counts": {
                "read": str(self.lines),
                "published": str(self.lines - self.dropped),
                "committed": _total(sinks, "committed"),
                "duplicates": _total(sinks, "duplicates"),
                "filtered": _total(self.stages, "rejected"),
                "dropped": str(self.dropped),
            },
        }


def _total(stages: Sequence[dict[str, object]], name: str) -> str:
    return str(sum(int(str(stage.get(name, 0))) for stage in stages))
