"""``timeline.jsonl``: every transition as a line, for people, plots and other programs.

One JSON object a line, in the order of the decisions::

    {"id": 7, "time": 1718000000.2, "what": "incident", "incident": 1, "model": "digits", "state": "confirmed",
     "text": "cam-1, cam-2 drifted: evidence is over 1,000,000 times the alarm threshold; ...", "details": {...}}

==========  ================  =========================================================================================
what        subject key       states
==========  ================  =========================================================================================
incident    incident: number  suspected confirmed collecting labelling training gating releasing resolved dismissed
rollout     rollout: number   staged canary expanding done aborted rolled_back (details: release, parent, canaries)
alarm       device: name      drift (details: release, time by the device's clock, and what the device adds)
device      device: name      online offline runs refused, or the kind of an event (fault, update, rollback)
release     release: number   current: the release that the whole fleet should run
==========  ================  =========================================================================================

``time`` is seconds since 1970 by the controller's clock; ``id`` grows. The lines are copied from the database after the
commit, so a controller that was killed adds what is missing and repeats nothing.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import sqlalchemy as sa

from cloud_trainer.controller import schema
from cloud_trainer.controller.store import Store
from shared.errors import StoreError

NAME = "timeline.jsonl"
LINE_MAX = 1 << 20
_LEVELS = {"refused": logging.WARNING, "fault": logging.WARNING, "aborted": logging.WARNING}

logger = logging.getLogger(__name__)


class Timeline:
    """Copies new rows of the log to ``timeline.jsonl`` in ``workspace``, and tells people.

    Raises:
        StoreError: the file cannot be read or written.
    """

    def __init__(self, workspace: Path) -> None:
        self._path = workspace / NAME
        self._last = self._recover()

    def copy(self, store: Store) -> int:
        """Write what is new; the number of lines."""
        table = schema.log
        with store.reading() as connection:
            rows = connection.execute(table.select().where(table.c.id > self._last).order_by(table.c.id)).all()
        if not rows:
            return 0
        lines = []
        for row in rows:
            lines.append(_line(row))
            subject = f"{row.what} {row.subject} {row.state}: " if row.what in {"incident", "rollout"} else ""
            logger.log(_LEVELS.get(row.state, logging.INFO), "%s%s", subject, row.text)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(lines))
        except OSError as error:
            self._last = self._recover()  # some lines may be there, and half a one
            raise StoreError(f"{self._path} cannot be written: {error.strerror}") from error
        self._last = rows[-1].id
        return len(rows)

    def _recover(self) -> int:
        """The number of the last whole line; half a line, from a kill while writing, is cut off."""
        try:
            with self._path.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                start = max(0, size - LINE_MAX)
                file.seek(start)
                tail = file.read()
                whole = tail[: tail.rfind(b"\n") + 1]
                file.truncate(start + len(whole))
            return int(json.loads(whole.splitlines()[-1])["id"]) if whole else 0
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"{self._path} is not this controller's timeline: {error}") from error


def _line(row: sa.Row[tuple[object, ...]]) -> str:
    numbered = row.what in {"incident", "rollout", "release"}
    key = "device" if row.what in {"alarm", "device"} else row.what
    entry = {
        "id": row.id,
        "time": row.time,
        "what": row.what,
        key: int(row.subject) if numbered else row.subject,
        "model": row.model,
        "state": row.state,
        "text": row.text,
        "details": json.loads(row.details),
    }
    return json.dumps(entry, ensure_ascii=False) + "\n"
