"""Frames of a camera. A thread reads them as they come; only the newest waits, so answers are never about the past.

``opencv`` takes USB cameras, RTSP and HTTP streams and video files, ``picamera2`` the Raspberry Pi's own. Neither is
imported before a camera is configured.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.retry import Retry
from edge_agent.sources import Sample
from edge_agent.sources.config import CameraSource
from edge_agent.sources.frames import Layout, to_sample
from edge_agent.sources.pumped import Pumped
from shared.errors import ConfigError, InputError, MissingExtraError
from shared.manifest import SampleSpec

Frame = NDArray[np.uint8]


class Capture(Protocol):
    """An open camera."""

    def read(self) -> Frame | None:
        """The next frame (height, width, 3), RGB; None when there is none any more."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


def check_library(config: CameraSource) -> None:
    """Whether the camera's library is installed.

    Raises:
        MissingExtraError: OpenCV is missing.
        ConfigError: picamera2 is missing, which comes with the system and not from the package index.
    """
    if config.backend == "opencv" and importlib.util.find_spec("cv2") is None:
        raise MissingExtraError("reading a camera", "camera")
    if config.backend == "picamera2" and importlib.util.find_spec("picamera2") is None:
        raise ConfigError(
            "reading a camera: picamera2 is not installed: sudo apt install python3-picamera2 (and give the agent's "
            "environment --system-site-packages)"
        )


def open_capture(config: CameraSource, size: tuple[int, int] | None) -> Capture:
    """Open the device; ``size`` is (height, width) to ask it for.

    Raises:
        OSError: there is no such camera, or it is in use.
    """
    return OpenCv(config, size) if config.backend == "opencv" else PiCamera(config, size)


class OpenCv:
    """A camera, stream or video file through OpenCV."""

    def __init__(self, config: CameraSource, size: tuple[int, int] | None) -> None:
        import cv2

        self._cv2 = cv2
        device: int | str = int(config.device) if config.device.isdecimal() else config.device
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            self._capture.release()
            raise OSError(f"camera {config.device} cannot be opened: is it plugged in, and is no one else using it?")
        if size is not None:
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[0])
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[1])
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def read(self) -> Frame | None:
        """See :class:`Capture`."""
        found, frame = self._capture.read()
        if not found or frame is None:
            return None
        rgb: Frame = self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2RGB)
        return rgb

    def close(self) -> None:
        """See :class:`Capture`."""
        self._capture.release()


class PiCamera:
    """The Raspberry Pi's camera through picamera2."""

    def __init__(self, config: CameraSource, size: tuple[int, int] | None) -> None:
        from picamera2 import Picamera2

        try:
            self._camera = Picamera2(int(config.device))
        except (IndexError, RuntimeError, ValueError) as error:
            raise OSError(f"camera {config.device} cannot be opened: {error}") from error
        # picamera2 calls the order of bytes in memory, so its BGR888 is an RGB array
        main: dict[str, Any] = {"format": "BGR888"}
        if size is not None:
            main["size"] = (size[1], size[0])
        self._camera.configure(self._camera.create_video_configuration(main=main))
        self._camera.start()

    def read(self) -> Frame | None:
        """See :class:`Capture`."""
        frame: Frame = self._camera.capture_array("main")
        return frame

    def close(self) -> None:
        """See :class:`Capture`."""
        self._camera.stop()
        self._camera.close()


class Camera(Pumped):
    """The newest frame, at most ``rate_hz`` a second, as a sample of the model's image input.

    Raises:
        ConfigError: the model does not take one image, or takes floating point ones and ``pixels`` is not said.
        MissingExtraError: the library is not installed.
    """

    def __init__(
        self,
        config: CameraSource,
        signature: Sequence[SampleSpec],
        *,
        capture: Callable[[CameraSource, tuple[int, int] | None], Capture] | None = None,
        retry: Retry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(f"camera {config.device}", capacity=1, newest_wins=True, retry=retry)
        if capture is None:
            check_library(config)
        self._layout = Layout.of(signature, config.pixels)
        self._config = config
        self._capture = capture or open_capture
        self._clock = clock
        height, width = self._layout.size
        self._size = _asked(config.height or height, config.width or width)

    def produce(self) -> Iterator[Sample | None]:
        """See :class:`Pumped`."""
        capture = self._capture(self._config, self._size)
        period, due = 1.0 / self._config.rate_hz, self._clock()
        try:
            while not self.stopping.is_set():
                frame = capture.read()
                if frame is None:
                    raise OSError(f"{self.name} gives no frames any more")
                now = self._clock()
                if now < due:
                    continue  # read all the same: what waits in the driver would be old
                due = max(due + period, now)
                try:
                    sample = to_sample(frame, self._layout)
                except InputError as error:
                    self.spoilt(str(error))
                    continue
                yield Sample(None, sample)
        finally:
            capture.close()


def _asked(height: int | None, width: int | None) -> tuple[int, int] | None:
    if height is None and width is None:
        return None
    if height is None or width is None:
        raise ConfigError("source: a camera's width and height go together")
    return height, width
