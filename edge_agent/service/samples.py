"""Samples for the controller: what is stored first, then fresh ones until there are enough, in chunks that fit a
message."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import numpy as np

from edge_agent.config import SamplesConfig
from edge_agent.outbox import Outbox
from edge_agent.samples import SampleStore, StoredSample
from edge_agent.service.commands import Refusal
from shared.manifest import SampleSpec
from shared.messages import Samples

CHUNK_BYTES = 256 << 10
REQUEST_MAX_BYTES = 64 << 20
CHUNK_SECONDS = 2.0
"""Fresh samples wait at most this long for a chunk to fill."""
REQUESTS_MAX = 16


class SampleRequest:
    """One command's samples on their way. Pure: time comes in, messages come out.

    ``last`` is set on the chunk that completes the count; a chunk that follows the stored samples may be small.
    """

    def __init__(self, request: str, count: int, spec: SampleSpec, stored: Iterable[StoredSample]) -> None:
        self.request = request
        self.chunks = 0
        self._spec = spec
        self._missing = count
        self._waiting: deque[StoredSample] = deque()
        self._waiting_since: float | None = None
        self._per_chunk = max(1, CHUNK_BYTES // max(1, sample_bytes(spec)))
        for one in stored:
            self.offer(one, 0.0)

    @property
    def done(self) -> bool:
        """Everything was given out."""
        return self._missing == 0 and not self._waiting

    @property
    def missing(self) -> int:
        """Samples that have not come yet."""
        return self._missing

    def offer(self, sample: StoredSample, now: float) -> None:
        """A sample; ignored when there are enough."""
        if self._missing:
            self._missing -= 1
            self._waiting.append(sample)
            if self._waiting_since is None:
                self._waiting_since = now

    def next_chunk(self, device: str, model: str, release: int, now: float, wall: float) -> Samples | None:
        """A message if a chunk is full, complete, or has waited long enough; ``now`` is monotonic, ``wall`` is not."""
        if self._waiting_since is None:
            return None
        full = len(self._waiting) >= self._per_chunk or not self._missing
        if not full and now - self._waiting_since < CHUNK_SECONDS:
            return None
        chosen = [self._waiting.popleft() for _ in range(min(self._per_chunk, len(self._waiting)))]
        self._waiting_since = now if self._waiting else None
        self.chunks += 1
        dtype = np.dtype(self._spec.dtype).newbyteorder("<")
        return Samples(
            device=device,
            time=wall,
            model=model,
            release=release,
            request=self.request,
            chunk=self.chunks - 1,
            last=self.done,
            ids=[one.id for one in chosen],
            dtype=self._spec.dtype,
            shape=list(self._spec.shape),
            data=b"".join(one.sample.astype(dtype, copy=False).tobytes() for one in chosen),
            labels=[one.label for one in chosen],
            scores=[round(one.score, 6) if math.isfinite(one.score) else 0.0 for one in chosen],
        )


class SampleDesk:
    """Keeps samples and serves requests for them. Called from the main loop only."""

    def __init__(self, config: SamplesConfig, device: str, topic: str, model: str, outbox: Outbox, room: int) -> None:
        self._config = config
        self._device = device
        self._topic = topic
        self._model = model
        self._outbox = outbox
        self._room = room
        self._store = SampleStore(config.max_bytes)
        self._requests: list[SampleRequest] = []

    def offer(self, sample: StoredSample, now: float) -> None:
        """A sample that was answered."""
        if self._config.share:
            self._store.offer(sample.id, sample.sample, sample.label, sample.score, sample.time)
            for request in self._requests:
                request.offer(sample, now)

    def request(self, request: str, count: int, since: float, spec: SampleSpec) -> str:
        """Begin to serve a request; the text of the reply.

        Raises:
            Refusal: not shared, or too much.
        """
        if not self._config.share:
            raise Refusal("this device does not share samples")
        most = REQUEST_MAX_BYTES // max(1, sample_bytes(spec))
        if count > most:
            raise Refusal(f"at most {most} samples at once, not {count}")
        if len(self._requests) >= REQUESTS_MAX:
            raise Refusal(f"{REQUESTS_MAX} requests for samples are under way already")
        stored = self._store.collect(count, since)
        self._requests.append(SampleRequest(request, count, spec, stored))
        return f"{len(stored)} of {count} samples are stored; {count - len(stored)} to come"

    def send(self, release: int, now: float, wall: float) -> None:
        """Put the next chunk into the outbox when it has room: samples must not push reports out."""
        for request in list(self._requests):
            if self._outbox.uncommitted or self._outbox.bytes > self._room:
                return
            chunk = request.next_chunk(self._device, self._model, release, now, wall)
            if chunk is not None:
                self._outbox.put(self._topic, chunk, soon=True)
            if request.done:
                self._requests.remove(request)

    def new_release(self, *, same_samples: bool) -> None:
        """Forget what an earlier release answered; requests go on if the samples look the same."""
        self._store = SampleStore(self._config.max_bytes)
        if not same_samples:
            self._requests.clear()


def sample_bytes(spec: SampleSpec) -> int:
    """Bytes of one raw sample."""
    return int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
