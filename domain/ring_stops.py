"""Why a stage stopped its ring: the stop codes that a ring holds, in words.

Codes below 32 belong to the stages in C (`ring/stages.h`); 64 is any stage in Python, whose run says more.
"""

from __future__ import annotations

PYTHON_FAILED = 64

STOPS = {
    1: ("filter.json_syntax", "the message is not JSON"),
    2: ("filter.json_object", "the message is not a JSON object"),
    3: ("filter.json_duplicate", "the message names the member twice"),
    4: ("filter.json_nesting", "the message is nested deeper than 64"),
    5: ("filter.json_utf8", "the message is not UTF-8"),
    6: ("ring.length_corrupt", "the length of the message is over slot_bytes"),
    7: ("ring.sequence_corrupt", "a sequence of the ring is impossible"),
    PYTHON_FAILED: ("stage.failed", "the stage failed"),
}
"""By stop code: the code of the error, and what it says of the message it stopped at."""


def words(code: int) -> str:
    """`: the message is not JSON (code 1)`; of a code that is not ours `: code 99`; of 0, no reason, nothing."""
    if not code:
        return ""
    return f": {STOPS[code][1]} (code {code})" if code in STOPS else f": code {code}"
