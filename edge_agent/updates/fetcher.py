"""HTTP for TUF with limits that a small device needs: time-outs, a lowest rate, and no temporary file in memory."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tuf.api.exceptions import DownloadLengthMismatchError, SlowRetrievalError
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

SOCKET_SECONDS = 20
CHUNK_BYTES = 1 << 16
GRACE_SECONDS = 60.0
LOWEST_BYTES_PER_SECOND = 1024.0
"""A sender that keeps each read just within the socket's time-out could hold an update up for ever."""


class BoundedFetcher(Urllib3Fetcher):
    """python-tuf's urllib3 fetcher; downloads rest in ``directory`` until they are verified.

    ``/tmp``, where python-tuf would put them, is memory on many small systems.
    """

    def __init__(self, directory: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(socket_timeout=SOCKET_SECONDS, chunk_size=CHUNK_BYTES, app_user_agent="sanderling")
        self._directory = directory
        self._monotonic = monotonic

    @contextlib.contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """A temporary file with at most ``max_length`` bytes from ``url``, positioned at its start.

        Raises:
            DownloadLengthMismatchError: there was more to read.
            SlowRetrievalError: it came too slowly.
            DownloadError: anything else on the way.
        """
        deadline = self._monotonic() + GRACE_SECONDS + max_length / LOWEST_BYTES_PER_SECOND
        with tempfile.TemporaryFile(dir=self._directory) as file:
            for chunk in self.fetch(url):
                if file.tell() + len(chunk) > max_length:
                    raise DownloadLengthMismatchError(f"{url} is longer than {max_length} bytes")
                if self._monotonic() > deadline:
                    raise SlowRetrievalError(f"{url} came at less than {LOWEST_BYTES_PER_SECOND:.0f} bytes/s")
                file.write(chunk)
            file.seek(0)
            yield file
