"""One camera of the demo: writes pictures as JSON lines, as an agent's ``[source] kind = "command"`` wants.

::

    python -m cloud_trainer.demo.camera --device cam-1 --seed 7 --rate 150 --pool cam-1.npz --bad-flag cam-1.bad

- A picture is a function of (device, seed, index): started again, the camera goes on after the last index that it
  noted beside the flag (``<flag>.position``), and never gives one name to two pictures.
- When the flag file appears, the camera goes bad at its next picture, for good, and writes which one that was to
  ``<flag>.since``.
- It ends when its reader does.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cloud_trainer.demo import data

SLACK_SECONDS = 0.5
"""A camera that is this late skips the waiting instead of catching up: no sensor delivers a burst."""


class Flag:
    """The switch that makes a camera go bad, and what the camera notes beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = path.with_name(path.name + ".position")
        self._since = path.with_name(path.name + ".since")
        self.bad_from = read_since(path)

    def start(self) -> int:
        """Block to start with: after the last one that was begun."""
        try:
            return int(self._position.read_text(encoding="ascii")) + 1
        except FileNotFoundError:
            return 0

    def begin(self, block: int) -> None:
        """Note that a block is begun."""
        _replace(self._position, str(block))

    def bad(self, index: int) -> bool:
        """Whether picture ``index`` is a bad one."""
        if self.bad_from is None and self._path.exists():
            self.bad_from = index
            _replace(self._since, json.dumps({"index": index, "time": time.time()}))
        return self.bad_from is not None and index >= self.bad_from


def read_since(flag: Path) -> int | None:
    """Index of the first bad picture of the camera with this flag; ``None`` while it is good."""
    note = since(flag)
    return None if note is None else int(note["index"])


def since(flag: Path) -> dict[str, float] | None:
    """``{"index", "time"}`` of the first bad picture; ``None`` while the camera is good."""
    try:
        found: dict[str, float] = json.loads(flag.with_name(flag.name + ".since").read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    return found


def _replace(path: Path, text: str) -> None:
    """Whole or not at all for readers; no fsync, a demo's camera need not survive a power cut."""
    aside = path.with_name(path.name + ".new")
    aside.write_text(text, encoding="ascii")
    aside.replace(path)


def pictures(device: str, seed: int, pool: data.Pool, flag: Flag) -> Iterator[str]:
    """Endless JSON lines, the next picture each."""
    block = flag.start()
    while True:
        flag.begin(block)
        clean, _ = data.stream(pool, device, seed, block)
        spoiled = None
        for i in range(data.BLOCK):
            index = block * data.BLOCK + i
            picture = clean[i]
            if flag.bad(index):
                spoiled = data.spoil(clean, device, seed, block) if spoiled is None else spoiled
                picture = spoiled[i]
            payload = base64.b64encode(picture.tobytes()).decode("ascii")
            yield f'{{"id": "{data.sample_id(device, index)}", "data": "{payload}"}}\n'
        block += 1


def play(lines: Iterator[str], rate: float, descriptor: int) -> None:
    """Write ``rate`` lines a second until the reader is gone."""
    due = time.monotonic()
    for line in lines:
        now = time.monotonic()
        if now < due:
            time.sleep(due - now)
        elif now > due + SLACK_SECONDS:
            due = now
        due += 1 / rate
        try:
            os.write(descriptor, line.encode("ascii"))
        except BrokenPipeError:
            return


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="a camera of the demo: pictures as JSON lines on standard output")
    parser.add_argument("--device", choices=data.DEVICES, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="pictures a second")
    parser.add_argument("--pool", type=Path, required=True, help="this device's base images, an .npz file")
    parser.add_argument("--bad-flag", type=Path, required=True, help="the camera goes bad when this file appears")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    lines = pictures(options.device, options.seed, data.load_pool(options.pool), Flag(options.bad_flag))
    try:
        play(lines, options.rate, sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
