from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import pytest

from cloud_trainer.demo import data
from cloud_trainer.demo.labeller import label
from shared import messages, topics
from shared.errors import MessageError
from tests.brokers import Listener, broker  # noqa: F401  (a fixture)


def samples(ids):
    x = np.zeros((len(ids), 16, 16), np.uint8)
    return messages.Samples(
        device="cam-1", model="digits", release=1, request="r1", chunk=0, last=True, ids=list(ids), dtype="uint8",
        shape=[16, 16], data=x.tobytes(),
    )  # fmt: skip


def test_labels_are_the_streams_truth():
    ids = [data.sample_id("cam-1", i) for i in (3, 64, 1000)]
    truth = label(samples(ids), 11, 5.0)
    expected = data.stream_labels("cam-1", 11, 0, 1001)[[3, 64, 1000]]
    assert [found.label for found in truth.labels] == [str(digit) for digit in expected]
    assert [found.id for found in truth.labels] == ids


def test_samples_of_another_source_are_refused():
    with pytest.raises(MessageError, match="samples of cam-1: 'x-1' is not <device>-<number>"):
        label(samples(["x-1"]), 0, 0.0)


def test_the_process_answers_samples_with_truth(broker):  # noqa: F811
    command = [sys.executable, "-m", "cloud_trainer.demo.labeller", "--port", str(broker.port)]
    command += ["--site", "plant", "--model", "digits", "--seed", "4"]
    ids = [data.sample_id("cam-1", i) for i in range(20)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline().startswith(b"labelling ")
            with Listener(broker.port, "sanderling/v1/plant/+/truth/#") as listener:
                topic = topics.up("plant", "cam-1", "samples", "digits")
                publish_until_answered(listener, topic, messages.encode(samples(ids)))
                received = listener.messages[0]
        finally:
            process.terminate()
            assert process.wait(10) == 0
    assert received.topic == "sanderling/v1/plant/cam-1/truth/digits"
    truth = messages.decode(received.payload, messages.Truth)
    assert [found.id for found in truth.labels] == ids
    assert msgspec.to_builtins(truth)["source"] == "demo-labeller"


def publish_until_answered(listener, topic, payload):
    """The labeller says that it is there before its subscription is."""
    for _ in range(50):
        listener.publish(topic, payload)
        try:
            listener.wait(lambda found: len(found) >= 1, 0.5)
        except (TimeoutError, AssertionError):
            continue
        return
    raise AssertionError("the labeller never answered")


def test_no_broker_is_one_line(capfd):
    command = [sys.executable, "-m", "cloud_trainer.demo.labeller", "--port", "9", "--site", "s", "--model", "m"]
    found = subprocess.run([*command, "--seed", "1"], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    assert "no MQTT broker answers at 127.0.0.1:9" in found.stderr
