"""The demo's MQTT broker: iotcore's MQTT 5 listener, in a process of its own, on a loopback address.

``python -m cloud_trainer.demo.broker broker.toml`` runs until it is told to stop.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from shared.errors import MissingExtraError, SanderlingError

CONFIG = """\
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5-1"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
"""
"""Messages may be as large as ``shared.messages.PAYLOAD_MAX_BYTES``; the broker's own default is 20 KB."""


def write_config(path: Path, host: str, port: int) -> None:
    """Write the broker's configuration."""
    path.write_text(CONFIG.format(host=host, port=port), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) != 1 or not Path(words[0]).is_file():
        print("usage: python -m cloud_trainer.demo.broker BROKER.TOML", file=sys.stderr)
        return 2
    # the broker's native loop never returns to Python, so Python's own handlers would never run
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from iotcore import Broker
    except ImportError:
        error: SanderlingError = MissingExtraError("the demo's broker", "demo")
        print(f"broker: {error}", file=sys.stderr)
        return error.exit_code
    Broker(config_path=words[0]).run_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
