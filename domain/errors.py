"""The one tree of errors. A refusal by a rule is not here: it is an answer (`domain.refusal`).

    MunimentError
    ├── UsageError      2  the request makes no sense as given
    ├── NotFoundError   3  no such thing
    ├── DeniedError     4  authority or approval lacking
    ├── ConflictError   5  state moved, plan stale, idempotency key reused with other content
    ├── WrongError      7  looked, and it is wrong: chain, digest, signature, verification
    ├── UnavailableError 8 could not look; a retry may succeed
    ├── UnfitError      9  the host does not fit the contract
    └── InvalidError    10 a spec or record does not fit its schema

The number is the exit code (architecture.md, section 7). 7 and 8 are never merged.
"""

from __future__ import annotations


class MunimentError(Exception):
    """A fault with what, where, expected, found and the next step.

    Args:
        message: what happened and where, one sentence.
        code: stable dotted code, first word the area, e.g. `store.read_only`.
        hint: what to do next.
        context: expected, found, position, field …: shown as key-value lines and in JSON.
    """

    exit_code = 1
    retryable = False
    default_code = "fault"

    def __init__(self, message: str, *, code: str = "", hint: str = "", **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.context = context


class UsageError(MunimentError):
    """The request makes no sense as given."""

    exit_code = 2
    default_code = "usage"


class NotFoundError(MunimentError):
    """No such thing."""

    exit_code = 3
    default_code = "not_found"


class DeniedError(MunimentError):
    """Authority or approval is lacking."""

    exit_code = 4
    default_code = "denied"


class ConflictError(MunimentError):
    """The state moved, a plan is stale, or an idempotency key was reused with other content."""

    exit_code = 5
    default_code = "conflict"


class WrongError(MunimentError):
    """Looked, and it is wrong: chain, digest, signature or verification."""

    exit_code = 7
    default_code = "wrong"


class UnavailableError(MunimentError):
    """Could not look. Nothing was decided; a retry may succeed."""

    exit_code = 8
    retryable = True
    default_code = "unavailable"


class UnfitError(MunimentError):
    """The host does not fit the contract."""

    exit_code = 9
    default_code = "unfit"


class InvalidError(MunimentError):
    """A spec or record does not fit its schema."""

    exit_code = 10
    default_code = "invalid"
