"""Against a real broker: what was not committed comes again, what was committed counts once."""

from __future__ import annotations

import logging
import threading

import pytest
import sqlalchemy as sa

from cloud_trainer.controller import ingest, schema
from cloud_trainer.controller.ingest import Link
from cloud_trainer.controller.store import Store
from shared import messages, topics
from shared.enrolment import BrokerAddress
from shared.errors import StoreError
from tests.brokers import Listener, free_port
from tests.cloud_trainer.controller.fake import MODEL, SITE, report

REPORT = topics.up(SITE, "cam-1", "report", MODEL)


def link(store: Store, port: int) -> Link:
    made = Link(store, SITE, BrokerAddress("127.0.0.1", port), changed=lambda: None)
    made._client.reconnect_delay_set(0.1, 0.2)
    made.start()
    return made


def kept(store: Store) -> list[float]:
    with store.reading() as connection:
        return list(connection.scalars(sa.select(schema.messages.c.sequence).order_by(schema.messages.c.id)))


def die(dead: Link) -> None:
    """As a kill does: the socket closes without a DISCONNECT, and nothing that waits is committed."""
    dead._client._sock_close()
    dead._client._thread_terminate = True
    dead._stop.set()


def test_a_message_comes_again_when_the_controller_dies_before_the_commit(broker, store, release, until, monkeypatch):
    entered = threading.Event()

    def never(*_: object) -> None:
        entered.set()
        raise StoreError("database: disk is full")

    monkeypatch.setattr(ingest, "RETRY_SECONDS", 60.0)
    with Listener(broker.port) as device:
        with monkeypatch.context() as patch:
            patch.setattr(ingest, "commit_group", never)
            first = link(store, broker.port)
            until(first.connected.is_set)
            for sequence in (1, 2, 3):
                device.publish(REPORT, messages.encode(report(release, "cam-1", sequence)))
            assert entered.wait(10)
            die(first)
        assert kept(store) == []
        second = link(store, broker.port)
        until(lambda: len(kept(store)) == 3)
        assert kept(store) == [1, 2, 3]
        second.stop()
        third = link(store, broker.port)  # acknowledged: they do not come a third time
        until(third.connected.is_set)
        device.publish(REPORT, messages.encode(report(release, "cam-1", 4)))
        until(lambda: len(kept(store)) == 4)
        assert (third.counters.stored, third.counters.duplicates) == (1, 0)
        third.stop()


def test_a_message_that_was_committed_and_not_acknowledged_counts_once(broker, store, release, until, monkeypatch):
    with Listener(broker.port) as device:
        first = link(store, broker.port)
        until(first.connected.is_set)
        monkeypatch.setattr(first._client, "ack", lambda *_: None)
        device.publish(REPORT, messages.encode(report(release, "cam-1", 1)))
        until(lambda: kept(store) == [1])
        die(first)
        second = link(store, broker.port)
        until(lambda: second.counters.duplicates == 1)
        assert kept(store) == [1]
        second.stop()


def test_a_broker_that_restarts_and_forgets_is_subscribed_to_again(broker, store, release, until):
    made = link(store, broker.port)
    until(made.connected.is_set)
    broker.restart()
    until(lambda: made.connects == 2 and made.connected.is_set())
    with Listener(broker.port) as device:
        device.publish(REPORT, messages.encode(report(release, "cam-1", 1)))
        until(lambda: kept(store) == [1])
    made.stop()


def test_malformed_messages_are_kept_counted_and_acknowledged_and_said_once(broker, store, until, caplog):
    with Listener(broker.port) as device:
        made = link(store, broker.port)
        until(made.connected.is_set)
        for _ in range(5):
            device.publish(REPORT, b"\x00not json")
        until(lambda: made.counters.malformed == 5)
        device.publish(topics.up(SITE, "cam-1", "status"), b'{"device":"cam-1","state":"online"}')
        until(lambda: made.counters.stored == 1)
        made.stop()
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
    with store.reading() as connection:
        assert len(connection.execute(schema.bad_messages.select()).all()) == 5


def test_what_is_published_is_told_when_the_broker_has_it(broker, store, until):
    made = link(store, broker.port)
    assert not made.publish("x", messages.Status(device="a", state="online")) or made.connected.is_set()
    until(made.connected.is_set)
    with Listener(broker.port, topics.device_filter(SITE, "cam-1")) as device:
        wish = messages.Desired(model=MODEL, release=3, time=1.0)
        assert made.publish(topics.down(SITE, "cam-1", "desired", MODEL), wish, retain=True, token="t")
        (received,) = device.wait(lambda found: len(found) == 1)
        assert (received.content_type, received.user) == (messages.JSON, {"schema": "1"})
        assert messages.decode(received.payload, messages.Desired).release == 3
        assert until(made.take_sent) == ["t"]
        assert made.take_sent() == []
    made.stop()


def test_a_broker_that_is_down_is_said_once_and_tried_until_it_is_up(store, until, caplog):
    from tests.brokers import TestBroker

    port = free_port()
    made = link(store, port)
    until(lambda: "no broker" in caplog.text)
    with TestBroker(port):
        until(made.connected.is_set)
        made.stop()
    assert caplog.text.count("no broker") == 1


@pytest.mark.parametrize("error", [RuntimeError("bug")])
def test_a_failure_of_the_committing_thread_is_not_hidden(broker, store, release, until, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(ingest, "commit_group", fail)
    with Listener(broker.port) as device:
        made = link(store, broker.port)
        until(made.connected.is_set)
        device.publish(REPORT, messages.encode(report(release, "cam-1", 1)))
        assert until(lambda: made.failure) is error
        made.stop()
