"""The library's own recorder tests, and a real DCB application of it, over our logs."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import ClassVar

import pytest
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem
from eventsourcing.dcb.application import DCBApplication
from eventsourcing.dcb.domain import Selector, Tagged
from eventsourcing.dcb.msgpack import Decision, InitialDecision, MessagePackMapper
from eventsourcing.dcb.tests import DCBRecorderTestCase
from eventsourcing.persistence import InfrastructureFactoryError, IntegrityError, ProgrammingError
from eventsourcing.utils import get_topic
from muniment.domain.errors import InvalidError, WrongError
from muniment.store import merkle
from muniment.store.dcb import MunimentDCBRecorder, created_draft, to_draft, to_event
from muniment.store.open import create_log, open_log


@pytest.fixture
def opaque(make):
    log = make("opaque")
    log.append([created_draft("s-1")])
    return log


@pytest.mark.parametrize("name", ["_test_append_read", "_test_append_subscribe"])
def test_the_recorder_tests_of_the_library(opaque, name):
    getattr(DCBRecorderTestCase(), name)(MunimentDCBRecorder(opaque))


def test_positions_are_leaf_indices_and_the_first_record_is_hidden(opaque):
    recorder = MunimentDCBRecorder(opaque)
    assert recorder.read().head is None
    assert list(recorder.read(after=0)) == []
    event = DCBEvent("t", b"\x00\xff", ["b", "a", "b"])
    assert recorder.append([event]) == 1
    assert [event] == [found.event for found in recorder.read()]
    assert merkle.leaf_hash(to_draft(event).head) == list(opaque.leaves())[1]
    assert to_draft(event).head == b'{"data":"AP8=","tags":["b","a","b"],"type":"t"}'
    assert opaque.store_id == "s-1"


def test_the_hidden_record_breaks_no_condition(opaque):
    recorder = MunimentDCBRecorder(opaque)
    assert recorder.append([DCBEvent("t", b"")], DCBAppendCondition()) == 1
    with pytest.raises(IntegrityError):
        recorder.append([DCBEvent("t", b"")], DCBAppendCondition())
    query = DCBQuery([DCBQueryItem(types=["store.created/1"])])
    assert recorder.append([DCBEvent("t", b"")], DCBAppendCondition(query)) == 2
    assert recorder.append([DCBEvent("t", b"")], DCBAppendCondition(after=50)) == 3


def test_nothing_to_append(opaque):
    with pytest.raises(ProgrammingError):
        MunimentDCBRecorder(opaque).append([])


def test_a_records_log_and_an_empty_one_are_refused(make):
    with pytest.raises(InvalidError, match="our own records"):
        MunimentDCBRecorder(make("records"))
    with pytest.raises(InvalidError, match=r"no store\.created"):
        MunimentDCBRecorder(make("opaque"))


@pytest.mark.parametrize(
    "leaf", [b"", b"{}", b'{"data":"!","tags":[],"type":"t"}', b'{"data":"","tags":[],"type":"t","x":1}']
)
def test_a_leaf_that_is_no_event_is_wrong(leaf):
    with pytest.raises(WrongError):
        to_event(leaf)


class Opened(InitialDecision):
    account_id: str


class Paid(Decision):
    account_id: str
    amount: int


class Bank(DCBApplication):
    env: ClassVar = {
        "MAPPER_TOPIC": get_topic(MessagePackMapper),
        "PERSISTENCE_MODULE": "muniment.store.sqlite",
    }

    def pay(self, account: str, amount: int) -> int:
        paid = Tagged(tags=[account], decision=Paid(account_id=account, amount=amount))
        return self.events.append([paid])


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """What an application is told of its store; the store is not there yet."""
    url = str(tmp_path / "bank") if request.param == "sqlite" else request.getfixturevalue("pg_url")
    return {"PERSISTENCE_MODULE": f"muniment.store.{request.param}", "MUNIMENT_STORE": url}


def test_a_real_application_keeps_its_events_in_a_store(place):
    env = place
    with Bank(env) as bank:
        assert [bank.pay("a", 5), bank.pay("b", 7)] == [1, 2]
        selector = Selector(types=[Paid], tags=["a"])
        with pytest.raises(IntegrityError):
            bank.events.append(
                [Tagged(tags=["a"], decision=Paid(account_id="a", amount=1))], cb=selector, after=0
            )
    with Bank(env) as bank:
        assert [tagged.decision.amount for tagged in bank.events.read()] == [5, 7]
        assert bank.pay("a", 1) == 3
    with closing(open_log(place["MUNIMENT_STORE"], read_only=True)) as log:
        assert (log.kind, log.head().size) == ("opaque", 4)
        assert log.store_id.startswith("s-")


def test_applications_that_begin_at_once_share_one_log(place):
    with ThreadPoolExecutor(8) as many:
        banks = list(many.map(lambda _: Bank(place), range(8)))
        assert sorted(many.map(lambda bank: bank.pay("a", 1), banks)) == list(range(1, 9))
    for bank in banks:
        bank.close()
    with closing(open_log(place["MUNIMENT_STORE"], read_only=True)) as log:
        assert log.head().size == 9


def test_a_records_store_refuses_an_application(place):
    create_log(place["MUNIMENT_STORE"], "records").close()
    with pytest.raises(InvalidError, match="our own records"):
        Bank(place)


def test_no_tracking_records(place):
    with Bank(place) as bank, pytest.raises(InfrastructureFactoryError):
        bank.factory.tracking_recorder()


@pytest.mark.parametrize("store", [{}, {"MUNIMENT_STORE": "bank"}, {"MUNIMENT_STORE": "sqlite:///bank"}])
def test_no_folder_is_taken_for_a_database(tmp_path, monkeypatch, store):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUNIMENT_STORE", raising=False)
    with pytest.raises(InfrastructureFactoryError, match="postgresql://"):
        Bank({"PERSISTENCE_MODULE": "muniment.store.postgres", **store})
    assert list(tmp_path.iterdir()) == []


def test_our_own_start_does_not_load_the_library():
    code = (
        "import sys, muniment.store.open; sys.exit(bool({'eventsourcing', 'asyncio'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
