"""An engine in memory: doubles its sample, refuses negative ones, and keeps a diary."""

import threading
import time

import numpy as np

from edge_agent.answers import NO_SCORES, Answer
from shared.errors import BackendError, InputError


class Doubler:
    """``answer.value`` is twice the sample's first number. ``delay`` seconds a call, ``row_delay`` a row beside.

    Negative numbers do not fit. 666 fits, but fails when it is run. 777 is a bug: not one of our errors. A call while
    another runs is noted in ``overlaps``.
    """

    def __init__(self, delay=0.0, row_delay=0.0):
        self.delay = delay
        self.row_delay = row_delay
        self.calls = []  # the samples of each call
        self.overlaps = 0
        self.busy = threading.Lock()
        self.gate = threading.Event()  # clear it, and calls wait
        self.gate.set()
        self.entered = threading.Event()
        self.made = 0

    def check_one(self, sample):
        if np.ravel(sample)[0] < 0:
            raise InputError(f"{np.ravel(sample)[0]:g} is negative")

    def infer(self, sample, name=None):
        self.check_one(sample)
        return self._run([sample], [name])[0]

    def infer_batch(self, samples, ids=None):
        for sample in samples:
            self.check_one(sample)
        return self._run(samples, ids or [None] * len(samples))

    def _run(self, samples, ids):
        if not self.busy.acquire(False):
            self.overlaps += 1
            self.busy.acquire()
        try:
            self.entered.set()
            assert self.gate.wait(10)
            numbers = [float(np.ravel(sample)[0]) for sample in samples]
            self.calls.append(numbers)
            if self.delay or self.row_delay:
                time.sleep(self.delay + self.row_delay * len(numbers))
            if 666 in numbers:
                raise BackendError("666 cannot be run")
            if 777 in numbers:
                raise ZeroDivisionError("777")
            self.made += 1
            return [self._answer(n, name) for n, name in zip(numbers, ids, strict=True)]
        finally:
            self.busy.release()

    def _answer(self, number, name):
        return Answer(
            name or f"made-{self.made}-{number}", "", float("nan"), NO_SCORES, {"x": [number]}, 1.0, 2 * number
        )


def sample(number):
    return np.array([number], np.float32)
