"""A controller process whose trainer is train_stub.py, and which can be told when to die.

controller_process.py CONFIG READY [DEATH ...]; a DEATH is ``<state>`` (SIGKILL right after the commit in which an
incident or rollout enters that state) or ``-<state>`` (right before it).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_trainer.config import load_controller
from cloud_trainer.controller import records
from cloud_trainer.controller.service import Service, set_up_logging
from cloud_trainer.controller.store import Store
from shared.errors import SanderlingError


def arm(deaths: set[str]) -> None:
    """Make the process end itself at the given transitions."""
    entered: list[str] = []

    def wrap(name: str) -> None:
        original = getattr(records, name)

        def logged(connection, row, now):
            if f"-{row.state}" in deaths:
                os.kill(os.getpid(), signal.SIGKILL)
            entered.append(row.state)
            original(connection, row, now)

        setattr(records, name, logged)

    wrap("log_incident")
    wrap("log_rollout")
    transaction = Store.transaction

    @contextmanager
    def dying(self: Store) -> Iterator[object]:
        with transaction(self) as connection:
            yield connection
        if deaths & set(entered):
            os.kill(os.getpid(), signal.SIGKILL)

    Store.transaction = dying


def main() -> int:
    config, ready, *deaths = sys.argv[1:]
    if deaths:
        arm(set(deaths))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    set_up_logging("info")
    command = (sys.executable, str(Path(__file__).with_name("train_stub.py")))
    try:
        Service(load_controller(Path(config)), train_command=command).run(stop, ready_file=Path(ready))
    except SanderlingError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
