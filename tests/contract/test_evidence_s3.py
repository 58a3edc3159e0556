"""Evidence in S3: what the server, the network and the URL can do to it. A relay before a real server makes it fail on demand."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import s3_server
from evidence_places import S3Place, s3_for_tests
from muniment.domain.errors import (
    MunimentError,
    NotFoundError,
    UnavailableError,
    UnfitError,
    UsageError,
    WrongError,
)
from muniment.store.evidence import Source, name_of
from muniment.store.evidence_open import open_evidence
from muniment.store.evidence_s3 import PART, EvidenceS3, parse
from s3_server import SECRET, Relay, answer

GONE = "0" * 64


@pytest.fixture(scope="module")
def server() -> Iterator[s3_server.Server]:
    with s3_for_tests() as running:
        yield running


@pytest.fixture
def place(server: s3_server.Server) -> S3Place:
    return S3Place(server)


@pytest.fixture
def relay(server: s3_server.Server) -> Iterator[Relay]:
    relay = Relay(server.port)
    yield relay
    relay.close()


def every_use(store: EvidenceS3, address: str = GONE) -> dict[str, Any]:
    return {
        "put": lambda: store.put(b"abc"),
        "put large": lambda: store.put(b"x" * (PART + 1)),
        "open": lambda: store.open(address),
        "read": lambda: store.read(address, limit=100),
        "missing": lambda: store.missing([address]),
        "iter": lambda: list(store.iter()),
        "strays": lambda: list(store.strays()),
    }


def shows_no_secret(error: BaseException) -> None:
    """Neither the error nor what it hangs on says the key, and no traceback does."""
    import traceback

    said = "".join(traceback.format_exception(error)) + str(getattr(error, "context", "")) + repr(error)
    assert SECRET not in said
    assert "AKID" not in said


def unreadable(store: EvidenceS3, code: str, address: str = GONE) -> None:
    for name, use in every_use(store, address).items():
        with pytest.raises(UnavailableError) as caught:
            use()
        assert (code, 8) == (caught.value.code, caught.value.exit_code), name
        assert caught.value.hint
        shows_no_secret(caught.value)
    problem = store.check(address, "0" * 64, 3)
    assert problem is not None
    assert (problem.code, problem.exit_code) == ("unreadable", 8)


def test_a_bucket_that_is_missing_has_no_missing_blobs(server: s3_server.Server) -> None:
    unreadable(EvidenceS3(parse(f"s3://nowhere?endpoint={server.url}", {})), "evidence.no_place")


def test_a_server_that_is_not_there(place: S3Place) -> None:
    unreadable(place.store(endpoint="http://127.0.0.1:1"), "evidence.unreachable")


def test_wrong_credentials_are_unreadable_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDWRONG")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with s3_server.server(free_actions=1) as strict:
        strict.bucket("guarded")
        unreadable(EvidenceS3(parse(f"s3://guarded?endpoint={strict.url}", {})), "evidence.permission")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        ("403 Forbidden", "AccessDenied", "evidence.permission"),
        ("401 Unauthorized", "", "evidence.permission"),
        ("500 Internal Server Error", "InternalError", "evidence.io"),
        ("503 Slow Down", "SlowDown", "evidence.io"),
        ("404 Not Found", "", "evidence.io"),  # of a proxy, not of a bucket
        ("404 Not Found", "NoSuchBucket", "evidence.no_place"),
        ("400 Bad Request", "SomethingElse", "evidence.io"),
    ],
)
def test_an_answer_that_is_no_answer_is_unreadable(
    place: S3Place, relay: Relay, status: str, code: str, said: str
) -> None:
    blob = place.store().put(b"abc")
    relay.fail = (".", answer(status, code, secret=SECRET))
    unreadable(place.store(endpoint=relay.url), said, blob.blake3)
    relay.fail = None
    assert place.store(endpoint=relay.url).check(*blob) is None


def test_a_connection_that_is_cut_is_tried_again_and_then_unreadable(place: S3Place, relay: Relay) -> None:
    blob = place.store().put(b"abc")
    store = place.store(endpoint=relay.url)
    relay.fail, relay.times = (".", None), 2
    assert store.check(*blob) is None
    relay.times = 1 << 30
    before = len(relay.seen)
    unreadable(store, "evidence.unreachable", blob.blake3)
    assert len(relay.seen) - before <= 8 * 2 * 3  # uses, requests of one, tries of each


@pytest.mark.parametrize(("at", "times"), [(50, 99), (70_000, 99), (PART // 2, 1)])
def test_an_answer_that_ends_early_is_no_blob(place: S3Place, relay: Relay, at: int, times: int) -> None:
    blob = place.store().put(os.urandom(PART + 5))
    relay.cut, relay.times = ("^GET", at), times
    problem = place.store(endpoint=relay.url).check(*blob)
    assert problem is None if times == 1 else problem is not None and problem.code == "unreadable"
    assert relay.times < times


def to_the_end(source: Source) -> None:
    while source.stream.read(1 << 20):
        pass


def test_the_server_is_killed_between_two_ranges(server: s3_server.Server) -> None:
    with s3_server.server() as mortal:
        place = S3Place(mortal)
        store = place.store()
        blob = store.put(os.urandom(2 * PART))
        with store._source(blob.blake3) as source:
            assert len(source.stream.read(1 << 20) or b"") == 1 << 20
            mortal.process.kill()
            mortal.process.wait()
            with pytest.raises(UnavailableError) as caught:
                to_the_end(source)
        assert caught.value.code == "evidence.unreachable"


def test_an_object_that_is_replaced_while_it_is_read_is_no_mixture(place: S3Place) -> None:
    store = place.store()
    blob = store.put(os.urandom(2 * PART))
    with store._source(blob.blake3) as source:
        source.stream.read(1 << 20)
        place.damage(blob.blake3, os.urandom(2 * PART))
        with pytest.raises(UnavailableError) as caught:
            to_the_end(source)
    assert caught.value.code == "evidence.changed"
    problem = store.check(*blob)
    assert problem is not None
    assert problem.code == "digest"


@pytest.mark.parametrize("size", [3, PART + 1])
def test_the_write_itself_refuses_what_is_there(
    place: S3Place, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writers look at the same moment, and neither sees a blob; a wrong one stands there when they write."""
    store, data = place.store(), b"x" * size
    blob = place.store().put(data)
    place.damage(blob.blake3, b"wrong")
    real, looked = store.sizes, []
    monkeypatch.setattr(store, "sizes", lambda asked: {} if not looked.append(1) else real(asked))
    with pytest.raises(WrongError):
        store.put(data)
    assert looked
    problem = store.check(*blob)
    assert problem is not None
    assert problem.found == "5 bytes"


@pytest.mark.parametrize("size", [3, PART + 1])
def test_every_write_carries_the_condition(place: S3Place, relay: Relay, size: int) -> None:
    place.store(endpoint=relay.url).put(b"x" * size)
    named = [
        head.lower()
        for head in relay.seen
        if head.startswith(("PUT", "POST")) and "/evidence/" in head and "?uploads" not in head
    ]
    assert "if-none-match: *" in named[-1]  # of several, it is the last request that makes the name


@pytest.mark.parametrize("size", [3, PART + 1])
def test_a_server_without_conditions_is_written_to_all_the_same(
    place: S3Place, relay: Relay, size: int
) -> None:
    relay.fail = (r"(?i)if-none-match: \*", answer("501 Not Implemented", "NotImplemented"))
    store = place.store(endpoint=relay.url)
    blob = store.put(b"x" * size)
    assert store.check(*blob) is None
    place.damage(blob.blake3, b"wrong")
    with pytest.raises(WrongError):
        store.put(b"x" * size)


def test_a_write_whose_answer_is_lost_is_found(place: S3Place, relay: Relay) -> None:
    relay.cut, relay.times = ("^PUT", 0), 1
    store = place.store(endpoint=relay.url)
    assert store.check(*store.put(b"abc")) is None


def test_staging_is_emptied_and_a_leftover_is_no_evidence(place: S3Place, relay: Relay) -> None:
    import obstore

    place.store().put(b"x" * (PART + 1))
    assert [] == [item for page in obstore.list(place.client(), "team/store/staging") for item in page]
    relay.fail = ("(?i)^(DELETE|POST .*delete)", answer("403 Forbidden", "AccessDenied"))
    store = place.store(endpoint=relay.url)
    blob = store.put(b"y" * (PART + 1))
    assert store.check(*blob) is None
    assert list(store.strays()) == []


def test_the_copy_fails_and_no_name_stands_for_half_a_blob(place: S3Place, relay: Relay) -> None:
    relay.fail = ("(?i)x-amz-copy-source", answer("403 Forbidden", "AccessDenied"))
    with pytest.raises(UnavailableError):
        place.store(endpoint=relay.url).put(b"x" * (PART + 1))
    assert list(place.store().iter()) == []


def test_names_are_those_of_a_folder_store(place: S3Place) -> None:
    import obstore

    blob = place.store().put(b"abc")
    found = [item["path"] for page in obstore.list(place.client()) for item in page]
    assert found == [f"team/store/evidence/{name_of(blob.blake3)}"]


# --- the URL and the environment

ACCEPTED = {
    "s3://bucket": ("bucket", "", "", "us-east-1", False),
    "s3://bucket/a/b/?region=eu-central-1": ("bucket", "a/b", "", "eu-central-1", False),
    "s3://bucket/a?endpoint=https://minio.example:9000": (
        "bucket",
        "a",
        "https://minio.example:9000",
        "us-east-1",
        False,
    ),
    "s3://bucket/a?endpoint=http://localhost:9000": (
        "bucket",
        "a",
        "http://localhost:9000",
        "us-east-1",
        True,
    ),
    "s3://bucket?endpoint=http://10.0.0.1&allow_http=1": ("bucket", "", "http://10.0.0.1", "us-east-1", True),
}


@pytest.mark.parametrize("url", ACCEPTED)
def test_urls(url: str) -> None:
    assert ACCEPTED[url] == parse(url, {})


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@bucket/a",
        f"s3://bucket/a?secret_access_key={SECRET}",
        f"s3://bucket/a?endpoint=https://key:{SECRET}@host",
        f"s3://bucket/a?endpoint=https://host?token={SECRET}",
        f"s3://bucket/a#{SECRET}",
        "s3:bucket",
        "s3://",
        "s3:///a",
        "s3://Bucket/a",
        "s3://b/a",
        "s3://bucket/../a",
        "s3://bucket/a/%2e%2e/b",
        "s3://bucket/a//b",
        "s3://bucket/a%00b",
        "s3://bucket/a b",
        "s3://bucket?endpoint=ftp://host",
        "s3://bucket?endpoint=host:9000",
        "s3://bucket?endpoint=http://[::1",
        "s3://bucket?endpoint=http://10.0.0.1",
        "s3://bucket?endpoint=http://localhost.example",
        "s3://bucket?endpoint=http://10.0.0.1&allow_http=0",
        "s3://bucket?novalue",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_evidence(url)
    assert caught.value.exit_code == 2
    shows_no_secret(caught.value)


def test_the_environment_names_the_endpoint() -> None:
    environ = {"AWS_ENDPOINT_URL": "https://two", "AWS_ENDPOINT_URL_S3": "https://one", "AWS_REGION": "r"}
    assert parse("s3://bucket", environ) == ("bucket", "", "https://one", "r", False)
    with pytest.raises(UsageError):
        parse("s3://bucket", {"AWS_ENDPOINT_URL": "http://10.0.0.1"})


def test_without_credentials_nobody_is_asked() -> None:
    with pytest.raises(UnavailableError) as caught:
        EvidenceS3(parse("s3://bucket", {}), environ={})
    assert caught.value.code == "evidence.credentials"


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "obstore"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "obstore":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnfitError) as caught:
        open_evidence("s3://bucket/a")
    assert "muniment[s3]" in caught.value.hint


def test_a_blob_beyond_one_copy_is_refused_before_it_is_sent(
    place: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muniment.store.evidence_s3.LARGEST", 10)
    store = place.store()
    with pytest.raises(UnfitError) as caught:
        store.put(b"x" * 11)
    assert caught.value.code == "evidence.too_large"
    assert list(store.iter()) == []


def test_not_found_is_not_found(place: S3Place) -> None:
    with pytest.raises(NotFoundError) as caught:
        place.store().open(GONE)
    assert isinstance(caught.value, MunimentError)
    assert caught.value.exit_code == 3
