"""What every payload shares: strict, frozen, closed models and the field types of the record (architecture.md, section 4).

Text limits are ours: a record holds at most 65 535 canonical bytes, so no field may fill it alone. Control characters are
legal in free text (they are what happened); whoever shows text escapes it.
"""

from __future__ import annotations

from typing import Annotated, Any

from muniment.domain.canonical import MAX_INT
from muniment.domain.reference import NAME, PACK_ID
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

MAX_U64 = 2**64 - 1


class Payload(BaseModel):
    """A payload: frozen, strict (no coercion), no unknown field."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


def _u64(text: str) -> str:
    if text and int(text) > MAX_U64:
        raise ValueError("beyond 2^64-1")
    return text


Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
NoName = Annotated[str, StringConstraints(pattern=f"^({NAME})?$")]
PackId = Annotated[str, StringConstraints(pattern=f"^{PACK_ID}$")]
NoPack = Annotated[str, StringConstraints(pattern=f"^({PACK_ID})?$")]
Slot = Annotated[str, StringConstraints(pattern=f"^{NAME}/{NAME}/{NAME}$")]
Channel = Annotated[str, StringConstraints(pattern=f"^{NAME}/{NAME}$")]
Scope = Annotated[str, StringConstraints(pattern=rf"^(\*|{NAME}(/{NAME}){{0,2}})$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
NoDigest = Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]{64})?$")]
KeyId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Instant = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
NoInstant = Annotated[str, StringConstraints(pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)?$")]
Text = Annotated[str, StringConstraints(max_length=4096)]
Line = Annotated[str, StringConstraints(max_length=1024)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=0, le=MAX_INT)]
Integer = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)]
U64 = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,19})$"), AfterValidator(_u64)]
NoU64 = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,19})?$"), AfterValidator(_u64)]
Json = dict[str, Any]
Lines = Annotated[list[Line], Field(max_length=1000)]
