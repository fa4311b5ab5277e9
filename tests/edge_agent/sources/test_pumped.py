"""Sources with a thread of their own: cameras and Python functions."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from PIL import Image

from edge_agent.config import CameraSource, PythonSource
from edge_agent.retry import Backoff, Retry
from edge_agent.sources import check_source, open_source
from edge_agent.sources.camera import Camera
from edge_agent.sources.frames import Layout, resized, to_sample
from shared.errors import ConfigError, MissingExtraError
from shared.manifest import SampleSpec

IMAGE = SampleSpec("uint8", (4, 6, 3), kind="image")
ROW = SampleSpec("float32", (2,))


def soon() -> Retry:
    return Retry(Backoff(first=0.02, most=0.05))


def wait(condition, source=None, seconds: float = 10):
    end = time.monotonic() + seconds
    got: list = []
    while not condition(got):
        assert time.monotonic() < end, source and source.last_error
        if source is not None:
            got += source.poll(0.02)
        else:
            time.sleep(0.01)
    return got


class FakeCamera:
    """Gives ``frames`` frames of its number, then is unplugged; ``opened`` counts."""

    def __init__(self, frames: int = 3, *, absent: int = 0) -> None:
        self.opened = self.closed = 0
        self.frames, self.absent = frames, absent
        self.sizes: list = []

    def __call__(self, config, size):
        self.opened += 1
        self.sizes.append(size)
        if self.opened <= self.absent:
            raise OSError("camera 0 cannot be opened")
        self.left = self.frames
        return self

    def read(self):
        if not self.left:
            return None
        self.left -= 1
        time.sleep(0.002)
        return np.full((4, 6, 3), self.opened, np.uint8)

    def close(self) -> None:
        self.closed += 1


def test_a_camera_that_is_unplugged_is_opened_again_and_said_so(caplog):
    caplog.set_level("INFO")
    capture = FakeCamera(absent=2)
    source = Camera(CameraSource(rate_hz=1000), [IMAGE], capture=capture, retry=soon())
    try:
        troubles = set()
        got: list = []
        end = time.monotonic() + 10
        while len({int(s.data.flat[0]) for s in got}) < 2:
            assert time.monotonic() < end
            troubles.add(source.trouble)
            got += source.poll(0.02)
        assert "camera 0 cannot be opened" in troubles
        assert all(s.data.shape == (4, 6, 3) for s in got)
        assert capture.sizes[0] == (4, 6)
    finally:
        source.stop()
        source.stop()
    assert capture.closed == capture.opened - 2
    assert caplog.text.count("cannot be opened") == 1


def test_only_the_newest_frame_waits():
    capture = FakeCamera(frames=10**6)
    count = iter(range(1, 10**6))
    frames: list[int] = []

    def read():
        frames.append(next(count))
        time.sleep(0.001)
        return np.full((4, 6, 3), frames[-1] % 250, np.uint8)

    capture.read = read
    source = Camera(CameraSource(rate_hz=1000), [IMAGE], capture=capture, retry=soon())
    try:
        wait(lambda got: got, source)
        wait(lambda _: len(frames) > 60)
        before = len(frames)
        (sample,) = source.poll(0.5)
        assert (before - int(sample.data.flat[0])) % 250 < 30 or int(sample.data.flat[0]) >= before  # not an early one
        assert len(source.poll(0.5)) == 1
    finally:
        source.stop()


def test_a_camera_without_its_library_is_one_line_that_names_the_extra():
    with pytest.raises(MissingExtraError, match=r"sanderling\[camera\]"):
        check_source(CameraSource())
    with pytest.raises(ConfigError, match="apt install python3-picamera2"):
        check_source(CameraSource(backend="picamera2"))


def test_opencv_frames_come_as_rgb(tmp_path):
    (tmp_path / "cv2.py").write_text(
        textwrap.dedent("""
        import numpy as np
        CAP_PROP_FRAME_HEIGHT, CAP_PROP_FRAME_WIDTH, CAP_PROP_BUFFERSIZE, COLOR_BGR2RGB = 4, 3, 38, 4
        class VideoCapture:
            def __init__(self, device): self.device = device
            def isOpened(self): return self.device == 1
            def set(self, key, value): pass
            def read(self): return True, np.full((4, 6, 3), (1, 2, 3), np.uint8)
            def release(self): pass
        def cvtColor(frame, code): return frame[..., ::-1]
        """)
    )
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
from edge_agent.config import CameraSource
from edge_agent.sources import check_source, open_source
from shared.manifest import SampleSpec
for device in ("1", "7"):
    config = CameraSource(device=device, rate_hz=1000)
    check_source(config)
    source = open_source(config, [SampleSpec("uint8", (4, 6, 3))])
    for _ in range(50):
        found = source.poll(0.1)
        if found or source.trouble: break
    print(found[0].data[0, 0].tolist() if found else source.trouble)
    source.stop()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[0] == "[3, 2, 1]", done.stderr
    assert "camera 7 cannot be opened" in done.stdout


@pytest.mark.parametrize("shape", [(10, 14, 3), (5, 7, 3), (25, 21, 3), (13, 31, 3)])
def test_frames_shrink_as_pillow_shrinks_them(shape):
    frame = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    height, width = 5, 7
    found = resized(frame, height, width)
    assert found.shape == (height, width, 3)
    if shape[0] >= height and shape[1] >= width:
        expected = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))
        integral = shape[0] % height == 0 and shape[1] % width == 0
        if integral:  # else Pillow takes whole pixels
            assert np.abs(found.astype(int) - expected).max() <= 1
        assert abs(found.mean() - frame.mean()) < 2


def test_shrinking_weighs_pixels_by_their_area():
    row = np.array([0, 90, 180], np.uint8).reshape(1, 3, 1)
    np.testing.assert_array_equal(resized(row, 1, 2).ravel(), [30, 150])  # (0 + 90 / 2) / 1.5, (90 / 2 + 180) / 1.5


def test_frames_become_what_the_model_takes():
    frame = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)
    grey = np.asarray(Image.fromarray(frame).convert("L")).astype(int)
    found = to_sample(frame, Layout.of([SampleSpec("uint8", (4, 6))], None))
    assert np.abs(found - grey).max() <= 1
    planes = to_sample(frame, Layout.of([SampleSpec("float32", (3, 4, 6))], 1))
    np.testing.assert_allclose(planes, frame.transpose(2, 0, 1) / np.float32(255), rtol=1e-6)
    assert planes.dtype == np.float32
    anyway = to_sample(frame, Layout.of([SampleSpec("uint8", (-1, -1, 3))], None))
    np.testing.assert_array_equal(anyway, frame)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SampleSpec("float32", (4, 6, 3)), "pixels = 255 or 1"),
        (ROW, "needs a model of one image"),
        (SampleSpec("uint8", (4, 6, 5)), "needs a model of one image"),
    ],
)
def test_a_model_that_takes_no_image_is_told(spec, expected):
    with pytest.raises(ConfigError, match=expected):
        Camera(CameraSource(), [spec], capture=FakeCamera())


# ---- a Python function


def function(tmp_path, text: str) -> PythonSource:
    name = f"source_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text("import numpy as np\n" + textwrap.dedent(text))
    return PythonSource(function=f"{name}:samples", directory=str(tmp_path))


def test_a_function_gives_samples_until_it_returns(tmp_path):
    source = open_source(
        function(tmp_path, "def samples():\n    yield 'a', [1, 2]\n    yield np.zeros(2)\n    yield [[1], [2, 3]]\n"),
        [ROW],
    )
    got = wait(lambda got: len(got) == 2, source)
    assert [one.id for one in got] == ["a", None]
    assert [str(one.data.dtype) for one in got] == ["float32", "float64"]  # an array is taken as it is
    wait(lambda _: source.ended, source)
    assert source.bad == 1
    source.stop()


def test_a_function_that_calls_exit_is_called_again_too(tmp_path):
    from edge_agent.sources.function import Function

    source = Function(function(tmp_path, "def samples():\n    yield [1, 2]\n    exit(3)\n"), retry=soon())
    wait(lambda got: len(got) == 2, source)
    assert not source.ended
    source.stop()


def test_a_function_that_raises_is_called_again(tmp_path):
    config = function(
        tmp_path,
        """
        calls = 0
        def samples():
            global calls
            calls += 1
            if calls < 3:
                raise OSError(f"sensor is away")
            yield [calls, 0]
        """,
    )
    from edge_agent.sources.function import Function

    source = Function(config, retry=soon())
    assert wait(lambda got: got, source)[0].data.tolist() == [3, 0]
    assert source.trouble == ""
    source.stop()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("nowhere_to_be:found", "no module 'nowhere_to_be'"), ("json:nothing", "nothing"), ("sys:path", "is a list")],
)
def test_a_function_that_is_not_there_is_one_clear_error(tmp_path, name, expected):
    with pytest.raises(ConfigError, match=expected):
        check_source(PythonSource(function=name, directory=str(tmp_path)))


def test_a_source_that_is_full_waits_and_stops_at_once(tmp_path):
    source = open_source(function(tmp_path, "def samples():\n    while True: yield [0, 0]\n"), [ROW])
    assert wait(lambda got: got, source)
    time.sleep(0.05)
    assert len(source.poll(0.1)) <= 64
    source.stop()
    assert not source._thread.is_alive()
