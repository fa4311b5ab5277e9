"""Samples from a broker of the user's."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from edge_agent.config import MqttSource
from edge_agent.retry import Backoff, Retry
from edge_agent.sources import check_source
from edge_agent.sources.mqtt import Mqtt
from shared.errors import ConfigError
from shared.manifest import SampleSpec
from tests.brokers import Listener, TestBroker

ROW = SampleSpec("float32", (2,))


def wait(condition, source: Mqtt, seconds: float = 20) -> list:
    end = time.monotonic() + seconds
    got: list = []
    while not condition(got):
        assert time.monotonic() < end, source.last_error
        got += source.poll(0.02)
    return got


def test_messages_are_samples_bad_ones_are_counted_and_a_broker_may_go_and_come():
    with TestBroker() as broker:
        config = MqttSource(topic="plant/+/x", port=broker.port)
        source = Mqtt(config, [ROW], retry=Retry(Backoff(first=0.5, most=1.0)))  # a broker that restarts needs a moment
        with Listener(broker.port) as sensor:

            def send() -> None:
                sensor.publish("plant/a/x", b"[1, 2]")
                sensor.publish("plant/b/x", b"rubbish")
                sensor.publish("plant/b/x", json.dumps({"id": "n", "values": [3, 4]}).encode())

            publisher = threading.Thread(target=lambda: [send() or time.sleep(0.1) for _ in range(10)])
            source.poll(0.01)
            publisher.start()
            got = wait(lambda got: {s.id for s in got} == {None, "n"}, source)
            publisher.join()
            assert {tuple(s.data.tolist()) for s in got} == {(1.0, 2.0), (3.0, 4.0)}
            assert source.bad
            assert "plant/b/x: not a sample" in source.last_error
        broker.stop()
        wait(lambda _: source.trouble, source)
        broker.start()
        wait(lambda _: not source.trouble, source, 20)
        source.stop()
    assert not source._thread.is_alive()


def test_a_broker_that_speaks_an_older_mqtt_only_is_understood():
    """It answers the CONNECT of MQTT 5 as 3.1.1 does: connection refused, unacceptable protocol version."""
    levels: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _address = server.accept()
                with connection:
                    levels.append(connection.recv(1000)[8])
                    if levels[-1] == 5:
                        connection.sendall(b"\x20\x02\x00\x01")
                        continue
                    connection.sendall(b"\x20\x02\x00\x00")
                    subscribe = connection.recv(1000)
                    connection.sendall(b"\x90\x03" + subscribe[2:4] + b"\x00")
                    connection.sendall(b"\x30\x0b\x00\x01x" + b"[1.5, 2]")
                    over.wait(20)

        over = threading.Event()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        source = Mqtt(MqttSource(topic="x", port=server.getsockname()[1]), [ROW])
        (sample,) = wait(lambda got: got, source)
        assert sample.data.tolist() == [1.5, 2.0]
        assert levels == [5, 4]
        source.stop()
        over.set()
        thread.join(5)


@pytest.mark.parametrize("topic", ["a/#/b", "a+", "#/x", "plant/x#", "a\0b"])
def test_a_topic_that_is_none_is_said_at_the_start(topic):
    with pytest.raises(ConfigError, match="is no MQTT filter"):
        check_source(MqttSource(topic=topic))


def test_raw_values_and_a_password_that_cannot_be_read(tmp_path):
    two = [SampleSpec("float32", (2,), name="a"), SampleSpec("float32", (2,), name="b")]
    with pytest.raises(ConfigError, match='encoding "raw" is for models with one input'):
        Mqtt(MqttSource(topic="x", encoding="raw"), two)
    with pytest.raises(ConfigError, match="password_file cannot be read: No such file"):
        Mqtt(MqttSource(topic="x", username="u", password_file=str(tmp_path / "p")), [ROW])
