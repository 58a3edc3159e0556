"""Gate reports: only cases that ran and passed make a PASS."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muniment.app.gate_report import judge, read_report

OK = '<testcase classname="c" name="a"/>'
FAILED = '<testcase classname="c" name="f"><failure message="no">x</failure></testcase>'
ERRED = '<testcase classname="c" name="e"><error/></testcase>'
DISABLED = '<testcase name="d" status="notrun"/>'
SKIPPED = '<testcase classname="c" name="s"><skipped/></testcase>'


def suite(*cases: str, attributes: str = "") -> bytes:
    return f'<?xml version="1.0"?><testsuite name="s" {attributes}>{"".join(cases)}</testsuite>'.encode()


def verdict(data: bytes) -> tuple[str, int, int, int, int]:
    report = judge(data)
    assert (report.verdict == "PASS") == (report.reason == "")
    return report.verdict, report.tests, report.failures, report.errors, report.skipped


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (suite(OK), ("PASS", 1, 0, 0, 0)),
        (
            suite(OK, SKIPPED, attributes='tests="2" failures="0" errors="0" skipped="1"'),
            ("PASS", 2, 0, 0, 1),
        ),
        (suite(OK, FAILED, attributes='tests="2" failures="1"'), ("FAIL", 2, 1, 0, 0)),
        (suite(OK, ERRED, attributes='errors="1"'), ("ERROR", 2, 0, 1, 0)),
        (suite(FAILED, ERRED), ("FAIL", 2, 1, 1, 0)),
        (suite(), ("ERROR", 0, 0, 0, 0)),
        (suite(SKIPPED, SKIPPED), ("ERROR", 2, 0, 0, 2)),
        (suite('<testcase name="n" status="notrun"/>'), ("ERROR", 1, 0, 0, 1)),
        (suite('<testcase name="n" status="fail"/>'), ("ERROR", 1, 0, 0, 0)),
        (suite('<testcase name="n"><flakyFailure/></testcase>'), ("ERROR", 1, 0, 1, 0)),
        (suite('<testcase name="n"><skipped/><failure/></testcase>'), ("FAIL", 1, 1, 0, 0)),
        (
            suite(OK, '<testcase status="notrun"/>', attributes='skipped="0" disabled="1"'),
            ("PASS", 2, 0, 0, 1),
        ),
        (b"<testsuites>" + suite(OK)[21:] + suite(FAILED)[21:] + b"</testsuites>", ("FAIL", 2, 1, 0, 0)),
        (b"\xef\xbb\xbf<testsuite><testcase/></testsuite>", ("PASS", 1, 0, 0, 0)),
        ("<testsuite><testcase/></testsuite>".encode("utf-16"), ("PASS", 1, 0, 0, 0)),
        (
            suite("<properties><property/></properties>", OK, "<system-out/>"),
            ("PASS", 1, 0, 0, 0),
        ),
    ],
)
def test_junit(data, expected) -> None:
    assert verdict(data) == expected


@pytest.mark.parametrize("count", ["tests", "failures", "errors", "skipped"])
@pytest.mark.parametrize("stated", ["7", "-1", "", "x", "1.0", "१", "9" * 400])
def test_declared_count_that_differs(count, stated) -> None:
    report = judge(suite(OK, attributes=f'{count}="{stated}"'))
    assert report.verdict == "ERROR"
    assert report.reason


def test_suite_that_was_cut_short() -> None:
    inner = suite(OK, attributes='tests="1"')[21:]
    assert judge(b'<testsuites tests="2">' + inner + b"</testsuites>").verdict == "ERROR"
    assert judge(b'<testsuites tests="1">' + inner + b"</testsuites>").verdict == "PASS"


BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><testsuite><testcase name="&c;"/></testsuite>"""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"PASS", "neither"),
        (b"<testsuite><testcase/>", "well-formed"),
        (b"<testsuite><testcase/></testsuite><x/>", "well-formed"),
        (b"<testsuite>\xff</testsuite>", "well-formed"),
        (b"<?xml version='1.0' encoding='bogus'?><testsuite><testcase/></testsuite>", "well-formed"),
        (b"<html><testcase/></html>", "root"),
        (b"<testcase/>", "root"),
        (b"<testsuites><testcase/></testsuites>", "unknown element"),
        (b"<testsuite><testcase><fault/></testcase></testsuite>", "unknown element"),
        (b"<testsuite><error/><testcase/></testsuite>", "unknown element"),
        (b"<testsuite><testsuites/></testsuite>", "unknown element"),
        (b"<testsuite><testcase>&x;</testcase></testsuite>", "well-formed"),
        (BOMB, "document type"),
        (
            b"<!DOCTYPE testsuite SYSTEM 'file:///x'><testsuite><testcase/></testsuite>",
            "document type",
        ),
    ],
)
def test_junit_that_cannot_decide(data, reason) -> None:
    report = judge(data)
    assert report.verdict == "ERROR"
    assert reason in report.reason


def test_cases_inside_ignored_elements_do_not_count() -> None:
    data = b"<testsuite><properties><testcase/></properties></testsuite>"
    assert verdict(data) == ("ERROR", 0, 0, 0, 0)


def checks(*verdicts: str) -> list[dict[str, str]]:
    return [{"id": f"c{index}", "verdict": item} for index, item in enumerate(verdicts)]


@pytest.mark.parametrize(
    ("stated", "verdicts", "expected"),
    [
        ("PASS", ["PASS"], ("PASS", 1, 0, 0, 0)),
        ("PASS", ["PASS", "SKIP"], ("PASS", 2, 0, 0, 1)),
        ("FAIL", ["PASS", "FAIL"], ("FAIL", 2, 1, 0, 0)),
        ("FAIL", ["ERROR", "FAIL"], ("FAIL", 2, 1, 1, 0)),
        ("ERROR", ["PASS", "ERROR"], ("ERROR", 2, 0, 1, 0)),
        ("PASS", ["PASS", "FAIL"], ("ERROR", 2, 1, 0, 0)),
        ("FAIL", ["PASS"], ("ERROR", 1, 0, 0, 0)),
        ("PASS", ["SKIP"], ("ERROR", 1, 0, 0, 1)),
        ("PASS", [], ("ERROR", 0, 0, 0, 0)),
        (None, ["PASS"], ("ERROR", 1, 0, 0, 0)),
        (True, ["PASS"], ("ERROR", 1, 0, 0, 0)),
        ("pass", ["PASS"], ("ERROR", 1, 0, 0, 0)),
        ("PASS", ["pass"], ("ERROR", 0, 0, 0, 0)),
        ("PASS", ["WAIVED"], ("ERROR", 0, 0, 0, 0)),
    ],
)
def test_json(stated, verdicts, expected) -> None:
    assert verdict(json.dumps({"verdict": stated, "checks": checks(*verdicts)}).encode()) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '{"verdict":"PASS"}',
        '{"verdict":"PASS","checks":{}}',
        '{"verdict":"PASS","checks":[1]}',
        '{"verdict":"PASS","checks":[{"verdict":"PASS"}]}',
        '{"verdict":"PASS","checks":[{"id":"","verdict":"PASS"}]}',
        '{"verdict":"PASS","checks":[{"id":"a","verdict":["PASS"]}]}',
        '{"verdict":"PASS","checks":[{"id":"a","verdict":"PASS"},{"id":"a","verdict":"PASS"}]}',
        '{"verdict":"PASS","checks":[{"id":"a","verdict":"PASS","waived":true}]}',
        '{"verdict":"PASS","checks":[{"id":"a","verdict":"FAIL","verdict":"PASS"}]}',
        '{"verdict":"FAIL","verdict":"PASS","checks":[{"id":"a","verdict":"PASS"}]}',
        '{"verdict":"PASS","ok":1,"checks":[{"id":"a","verdict":"PASS"}]}',
        '{"verdict":"PASS","checks":[{"id":"a","verdict":"PASS","observed":NaN}]}',
        '{"checks":' + "[" * 100_000,
        '{"verdict":"PASS","checks":[{"id":"a","verdict":"PASS"}]} x',
    ],
)
def test_json_that_cannot_decide(text) -> None:
    report = judge(text.encode())
    assert (report.format, report.verdict) == ("json", "ERROR")
    assert report.reason


@given(st.binary(max_size=60))
def test_noise_never_passes_and_never_raises(data) -> None:
    for prefix in (b"", b"{", b"<testsuite>", b'<testsuite><testcase name="'):
        assert judge(prefix + data).verdict == "ERROR"


@given(st.lists(st.sampled_from([OK, FAILED, ERRED, SKIPPED]), max_size=12))
def test_pass_means_that_something_passed_and_nothing_else(cases) -> None:
    expected = OK in cases and FAILED not in cases and ERRED not in cases
    assert (judge(suite(*cases)).verdict == "PASS") == expected


def test_failed_cases_are_named_up_to_fifty() -> None:
    report = judge(suite(OK, *[FAILED] * 60))
    assert report.failures == 60
    assert report.cases_failed == ("c.f",) * 50


def test_file_that_cannot_be_read(tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("none", "fifo", ".", "a\0b"):
        report = read_report(tmp_path / name)
        assert (report.format, report.verdict) == ("unknown", "ERROR")
        assert report.reason


def test_size_limit(tmp_path) -> None:
    path = tmp_path / "report.xml"
    path.write_bytes(suite(OK))
    assert read_report(path, len(suite(OK))).verdict == "PASS"
    assert read_report(path, len(suite(OK)) - 1).reason == f"report over {len(suite(OK)) - 1} bytes"
