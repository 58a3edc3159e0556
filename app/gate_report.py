"""Read the report of a gate and derive its verdict: JUnit XML, or the generic JSON of checks.

    {"verdict": "PASS", "checks": [{"id": "lint", "verdict": "PASS", "expected": "0", "observed": "0"}]}

FAIL = the gate said no; ERROR = it could not decide (release-rules.md, 1). Both block. Rules:
1. A report that cannot be read, is too long, or says a thing this page does not know is ERROR with a reason,
   never an exception and never PASS.
2. The verdict is derived from the cases. Declared counts or a declared verdict that differ from them are
   ERROR.
3. No case, or every case skipped: ERROR, no test ran.
4. Any failed case: FAIL, also beside errors, for a no is a no. Errors alone (the test broke before it could
   say): ERROR.
5. A flaky case (failed, then passed) is an error: its attempts differ.
6. XML with a DTD is refused unread, so no entity is ever expanded.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, Literal, NamedTuple
from xml.parsers import expat

MAX_REPORT = 64 << 20
MAX_NAMED = 50
_NAME_CUT = 200
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

Verdict = Literal["PASS", "FAIL", "ERROR"]


class GateReport(NamedTuple):
    """What a report says; `cases_failed` names the first 50 not passed, `reason` why it is no PASS."""

    format: Literal["junit", "json", "unknown"]
    verdict: Verdict
    tests: int
    failures: int
    errors: int
    skipped: int
    cases_failed: tuple[str, ...]
    reason: str


class _Unclear(Exception):  # noqa: N818  not an error of ours: it becomes the reason of an ERROR verdict
    """The report does not say anything that can be judged."""


class _Tally:
    """Counted cases."""

    def __init__(self) -> None:
        self.tests = self.failures = self.errors = self.skipped = 0
        self.named: list[str] = []

    def add(self, name: str, *, failed: bool, erred: bool, skipped: bool) -> None:
        self.tests += 1
        self.failures += failed
        self.errors += erred
        self.skipped += skipped
        if (failed or erred) and len(self.named) < MAX_NAMED:
            self.named.append(name[:_NAME_CUT])

    def counts(self) -> tuple[int, int, int, int]:
        return self.tests, self.failures, self.errors, self.skipped

    def derive(self) -> tuple[Verdict, str]:
        """Rules 3 and 4."""
        if self.tests == 0 or self.tests == self.skipped:
            return (
                "ERROR",
                "no test ran" if self.tests == 0 else f"no test ran: all {self.tests} were skipped",
            )
        if self.failures:
            return "FAIL", f"{self.failures} of {self.tests} failed"
        if self.errors:
            return "ERROR", f"{self.errors} of {self.tests} could not decide"
        return "PASS", ""


def read_report(path: Path, limit: int = MAX_REPORT) -> GateReport:
    """Read a report file of at most `limit` bytes and judge it by the rules above; it raises nothing."""
    try:
        data = _read(path, limit)
    except _Unclear as unclear:
        return GateReport("unknown", "ERROR", 0, 0, 0, 0, (), str(unclear))
    return judge(data)


def judge(data: bytes) -> GateReport:
    """Judge the bytes of a report."""
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    kind: Literal["junit", "json", "unknown"] = "unknown"
    tally = _Tally()
    if start != b"{" and start != b"<" and data[:2] not in _UTF16:
        reason = "neither JUnit XML nor a JSON object" if data.strip() else "report is empty"
        return GateReport(kind, "ERROR", 0, 0, 0, 0, (), reason)
    try:
        if start == b"{":
            kind = "json"
            _read_json(data, tally)
        else:
            kind = "junit"
            _Junit(tally).read(data)
    except _Unclear as unclear:
        return GateReport(kind, "ERROR", *tally.counts(), tuple(tally.named), str(unclear))
    verdict, reason = tally.derive()
    return GateReport(kind, verdict, *tally.counts(), tuple(tally.named), reason)


def _read(path: Path, limit: int) -> bytes:
    try:
        # O_NONBLOCK: a FIFO must not hang the gate
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _Unclear(f"not a plain file: {path}")
            data = file.read(limit + 1)
    except OSError as error:
        raise _Unclear(f"report not read: {path}: {error.strerror}") from error
    except ValueError as error:
        raise _Unclear(f"report not read: {error}") from error
    if len(data) > limit:
        raise _Unclear(f"report over {limit} bytes")
    return data


class _Junit:
    """One pass over JUnit XML without a tree; memory is the depth of the suites."""

    IGNORED = frozenset({"properties", "property", "system-out", "system-err", "rerunFailure", "rerunError"})
    FLAKY = frozenset({"flakyFailure", "flakyError"})
    SUITES = frozenset(
        {("", "testsuites"), ("", "testsuite"), ("testsuites", "testsuite"), ("testsuite", "testsuite")}
    )

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally
        self._path: list[str] = []
        self._suites: list[tuple[dict[str, str], tuple[int, int, int, int]]] = []
        self._case: dict[str, str] = {}
        self._seen: set[str] = set()

    def read(self, data: bytes) -> None:
        """Count into the tally.

        Raises:
            _Unclear: rules 1, 2 and 6.
        """
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._refuse_dtd
        parser.EntityDeclHandler = self._refuse_dtd
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            parser.Parse(data, True)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise _Unclear(f"not well-formed XML: {error}") from error

    def _refuse_dtd(self, *_: object) -> None:
        raise _Unclear("XML with a document type declaration is refused")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        inside = self._path[-1] if self._path else ""
        self._path.append(tag)
        if (inside, tag) in self.SUITES:
            self._suites.append((attributes, self._tally.counts()))
        elif inside == "testsuite" and tag == "testcase":
            self._case, self._seen = attributes, set()
        elif inside == "testcase" and (tag in ("failure", "error", "skipped") or tag in self.FLAKY):
            self._seen.add(tag)
        elif inside in ("testsuites", "testsuite", "testcase") and tag not in self.IGNORED:
            raise _Unclear(f"unknown element <{tag[:60]}> in <{inside}>")
        elif not inside:
            raise _Unclear(f"root element <{tag[:60]}> is not testsuite or testsuites")

    def _end(self, tag: str) -> None:
        self._path.pop()
        inside = self._path[-1] if self._path else ""
        if tag == "testcase" and inside == "testsuite":
            self._close_case()
        elif (inside, tag) in self.SUITES:
            self._close_suite(*self._suites.pop())

    def _close_case(self) -> None:
        name = ".".join(filter(None, (self._case.get("classname"), self._case.get("name")))) or "unnamed"
        failed, flaky = "failure" in self._seen, bool(self._seen & self.FLAKY)
        erred = "error" in self._seen or flaky
        status = {self._case.get(key, "").lower() for key in ("status", "result")}
        not_run = bool(status & {"notrun", "disabled", "suppressed", "skipped"})
        self._tally.add(
            name,
            failed=failed,
            erred=erred,
            skipped=not (failed or erred) and ("skipped" in self._seen or not_run),
        )
        if status & {"fail", "failed", "failure", "error"} and not (failed or erred):
            raise _Unclear(
                f"case {name[:_NAME_CUT]} has status {'/'.join(sorted(status - {''}))} and no failure"
            )

    def _close_suite(self, declared: dict[str, str], before: tuple[int, int, int, int]) -> None:
        """Rule 2: a suite's declared counts are those of the cases below it."""
        tests, failures, errors, skipped = (
            now - then for now, then in zip(self._tally.counts(), before, strict=True)
        )
        name = declared.get("name", "")[:60]
        for key, counted in (
            ("tests", tests),
            ("failures", failures),
            ("errors", errors),
            ("skipped", skipped),
        ):
            if key not in declared:
                continue
            # gtest and CTest count disabled cases apart from skipped ones
            stated = _number(declared, key) + (_number(declared, "disabled") if key == "skipped" else 0)
            if stated != counted:
                raise _Unclear(f"suite {name!r} declares {stated} {key}, its cases give {counted}")


def _number(attributes: dict[str, str], key: str) -> int:
    text = attributes.get(key, "0").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise _Unclear(f"count {key}={text[:40]!r} is no number")
    return int(text)


def _read_json(data: bytes, tally: _Tally) -> None:
    """Count the checks into the tally and compare the stated verdict with the derived one."""
    try:
        report = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_members, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise _Unclear(f"not JSON: {error}") from error
    if set(report) - {"schema", "verdict", "checks"}:
        raise _Unclear(f"unknown member {min(set(report) - {'schema', 'verdict', 'checks'})[:60]!r}")
    checks = report.get("checks")
    if not isinstance(checks, list):
        raise _Unclear("no list of checks")
    names: set[str] = set()
    for index, check in enumerate(checks):
        _add_check(index, check, names, tally)
    stated = report.get("verdict")
    derived, _ = tally.derive()
    if stated != derived:
        raise _Unclear(f"stated verdict {str(stated)[:20]!r}, its checks give {derived!r}")


def _add_check(index: int, check: Any, names: set[str], tally: _Tally) -> None:
    if not isinstance(check, dict) or not isinstance(check.get("id"), str) or not check["id"]:
        raise _Unclear(f"check {index} has no id")
    name = check["id"]
    if name in names:
        raise _Unclear(f"check {name[:_NAME_CUT]!r} stands twice")
    names.add(name)
    if unknown := set(check) - {"id", "verdict", "expected", "observed", "message"}:
        raise _Unclear(f"check {name[:_NAME_CUT]!r} has unknown member {min(unknown)[:60]!r}")
    verdict = check.get("verdict")
    if verdict not in ("PASS", "FAIL", "ERROR", "SKIP"):
        raise _Unclear(f"check {name[:_NAME_CUT]!r} has verdict {str(verdict)[:20]!r}")
    tally.add(name, failed=verdict == "FAIL", erred=verdict == "ERROR", skipped=verdict == "SKIP")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Unclear("a member stands twice in one object")
    return found


def _refuse_constant(name: str) -> None:
    raise _Unclear(f"{name} is no JSON number")
