"""A fleet, its repository behind a real HTTP server that a test can make lie, and devices of it."""

from __future__ import annotations

import functools
import http.server
import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import msgspec

from cloud_trainer.registry import Registry
from edge_agent.updates import Updater
from shared.enrolment import BrokerAddress, Enrolment
from shared.manifest import Manifest, Variant, load_manifest, save_manifest
from tests.releases import make_release

NOW = 1_795_000_000.0
DAY = 86_400.0
BROKER = BrokerAddress("127.0.0.1", 1883)


class Server:
    """Serves ``root``. ``lies`` maps a path (decoded, no leading slash) to what is sent instead: bytes, an HTTP status,
    or a function that gets the honest bytes; ``endless`` holds paths that never stop sending."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lies: dict[str, bytes | int | Callable[[bytes], bytes]] = {}
        self.endless: set[str] = set()
        self.asked: list[str] = []
        self.sent = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = unquote(request.path).lstrip("/")
        self.asked.append(path)
        lie = self.lies.get(path)
        file = self.root / path
        if isinstance(lie, int):
            request.send_error(lie)
            return
        if lie is None and path not in self.endless and not file.is_file():
            request.send_error(404)
            return
        data = file.read_bytes() if file.is_file() else b""
        data = lie if isinstance(lie, bytes) else lie(data) if lie else data
        request.send_response(200)
        if path not in self.endless:
            request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        try:
            request.wfile.write(data)
            while path in self.endless:
                self.sent += request.wfile.write(b"\0" * 65_536)
        except OSError:
            request.close_connection = True

    def close(self) -> None:
        self.endless.clear()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@functools.cache
def _built() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as directory:
        make_release(Path(directory), variants=("fp32-onnx", "int8-onnx"))
        return contents(Path(directory))


def write_release(path: Path, version: int, name: str = "digits") -> None:
    """A release as the trainer writes it; the files of all versions are the same, the manifests differ."""
    for file, data in _built().items():
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_bytes(data)
    save_manifest(msgspec.structs.replace(load_manifest(path), version=version, name=name), path)


class Fleet:
    """``fleet.publish(1)``, ``fleet.device("cam-1").fetch(1, everything)``."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.now = NOW
        self.registry = Registry.create(base / "fleet", ["digits"], now=NOW)
        self.server = Server(self.registry.repository)

    def release(self, version: int, name: str = "digits") -> Path:
        path = self.base / "built" / name / str(version)
        if not path.exists():
            write_release(path, version, name)
        return path

    def publish(self, version: int, *, cohort: tuple[str, ...] = ()) -> None:
        self.registry.publish(self.release(version), now=self.now, cohort=cohort)

    def enrolment(self, device: str = "cam-1") -> Enrolment:
        return self.registry.enrol(device, site="plant", broker=BROKER, url=self.server.url, now=self.now)

    def device(
        self, device: str = "cam-1", *, enrolment: Enrolment | None = None, clock: Callable[[], float] | None = None
    ) -> Updater:
        state = self.state(device)
        state.mkdir(parents=True, exist_ok=True)
        if enrolment is None:
            enrolment = self.enrolment(device)
        return Updater(enrolment, state, "digits", clock=clock or (lambda: self.now))

    def state(self, device: str = "cam-1") -> Path:
        return self.base / "devices" / device

    def target(self, version: int, name: str) -> str:
        """The served path of a release's file."""
        folder, _, base = name.rpartition("/")
        directory = Path("targets", "digits", str(version), folder)
        (found,) = (self.registry.repository / directory).glob(f"*.{base}")
        return (directory / found.name).as_posix()


def everything(manifest: Manifest) -> tuple[Variant, ...]:
    return manifest.variants


def first(manifest: Manifest) -> tuple[Variant, ...]:
    return manifest.variants[:1]


def damaged(data: bytes) -> bytes:
    """One bit flipped in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def contents(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


STEPS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "open")


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """In a child process only: SIGKILL instead of the ``step``-th call that changes the file system."""
    left = [step]

    def guarded(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if name == "open" and not (len(args) > 1 and isinstance(args[1], int) and args[1] & os.O_CREAT):
                return function(*args, **kwargs)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return function(*args, **kwargs)

        return call

    for name in STEPS:
        setattr(os, name, guarded(name, getattr(os, name)))
    yield


def dies_at(step: int, work: Callable[[], object]) -> bool:
    """Run ``work`` in a forked child that is killed before its ``step``-th change; False: it got through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside the server's thread; the child needs no lock
        child = os.fork()
    if not child:
        status = 1
        try:
            with killed_at(step):
                work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the work failed by itself"
    return False
