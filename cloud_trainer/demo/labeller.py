"""Stands in for the person who labels: reads the samples that devices send, publishes what they show.

The data set's truth is a function of (device, seed, index), so the labeller needs the seed and the samples' names, and
never looks at a device's answer.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence

from cloud_trainer.demo import data
from cloud_trainer.demo.link import Link, Received
from shared import messages, topics
from shared.errors import MessageError, SanderlingError

SOURCE = "demo-labeller"


def label(samples: messages.Samples, seed: int, now: float) -> messages.Truth:
    """The truth about a chunk of samples.

    Raises:
        MessageError: a sample is not one of this demo's.
    """
    labels = []
    for name in samples.ids:
        try:
            device, index = data.parse_id(name)
        except ValueError as error:
            raise MessageError(f"samples of {samples.device}: {error}") from error
        digit = int(data.stream_labels(device, seed, index, index + 1)[0])
        labels.append(messages.TruthLabel(id=name, label=data.LABELS[digit]))
    return messages.Truth(model=samples.model, source=SOURCE, labels=labels, time=now)


def answer(received: Received, seed: int, now: float) -> tuple[str, messages.Truth]:
    """Topic and payload that answer one ``up/samples`` message.

    Raises:
        MessageError: it is malformed.
    """
    topic = topics.parse(received.topic)
    samples = messages.decode(received.payload, messages.Samples, received.content_type)
    return topics.truth(topic.site, topic.device, samples.model), label(samples, seed, now)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; runs until it is told to stop."""
    parser = argparse.ArgumentParser(description="labels the samples that the demo's devices send")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--site", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    wanted = topics.up(options.site, "+", "samples", options.model)
    try:
        with Link(options.host, options.port, "demo-labeller", (wanted,)) as link:
            print(f"labelling {wanted}", flush=True)
            while True:
                received = link.take(3600.0)
                if received is None:
                    continue
                topic, truth = answer(received, options.seed, time.time())
                link.publish(topic, truth)
                print(f"{len(truth.labels)} labels to {topic}", flush=True)
    except SanderlingError as error:
        print(f"labeller: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
