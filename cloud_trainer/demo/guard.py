"""Outlives the demo by a moment: if the demo dies without a word (``kill -9``), its processes go with it.

``python -m cloud_trainer.demo.guard MARK`` waits for the end of its standard input, which the demo holds open, and
then ends every process with that mark. It hears no Ctrl-C: it has a session of its own.
"""

from __future__ import annotations

import signal
import sys

from cloud_trainer.demo.orphans import sweep


def main() -> int:
    """Entry point."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    return 1 if sweep(sys.argv[1]) else 0


if __name__ == "__main__":
    sys.exit(main())
