from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent import windows
from edge_agent.config import OutboxConfig
from edge_agent.outbox import Outbox
from shared import topics
from shared.errors import StoreError
from shared.messages import Event, Report, Samples, UpMessage, decode

EVENT = topics.up("plant", "cam-1", "event", "drift")
REPORT = topics.up("plant", "cam-1", "report", "digits")
SAMPLES = topics.up("plant", "cam-1", "samples", "digits")


def event(text: str = "drift") -> Event:
    return Event(device="cam-1", kind="drift", level="warning", text=text)


def report(number: int = 1, **changes) -> Report:
    plain = Report(
        device="cam-1",
        model="digits",
        release=1,
        variant="int8-litert",
        baseline="default",
        profile="0" * 16,
        samples=10,
        seconds=1.0,
        counts={"brightness": [number, 1, 2, *[0] * 15]},
        evidence=0.1 * number,
        effects={"brightness": float(number)},
        p50_us=10.0 * number,
        p99_us=20.0 * number,
    )
    return msgspec.structs.replace(plain, **changes)


def samples(size: int = 2000) -> Samples:
    return Samples(
        device="cam-1",
        model="digits",
        release=1,
        request="r",
        chunk=0,
        last=False,
        ids=["a"],
        dtype="uint8",
        shape=[size],
        data=bytes(size),
    )


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(tmp_path: Path, *, clock: Clock | None = None, boot: str = "b1", **config) -> Outbox:
    return Outbox(tmp_path / "outbox.db", OutboxConfig(**config), boot=boot, clock=clock or Clock())


def read(rows, type_: type[UpMessage] = Report) -> list:
    return [decode(row.payload, type_, row.content_type) for row in rows]


def test_a_group_is_written_when_it_is_full_or_old(tmp_path):
    clock = Clock()
    outbox = make(tmp_path, clock=clock, group_rows=3, group_seconds=30.0)
    outbox.put(REPORT, report())
    outbox.commit()
    assert outbox.take(10) == []
    assert outbox.due_in() == 30.0
    clock.now = 30.0
    outbox.commit()
    assert len(outbox.take(10)) == 1
    woken = []
    outbox.wake = lambda: woken.append(1)
    outbox.put(REPORT, report())
    outbox.put(REPORT, report())
    assert not woken
    outbox.put(REPORT, report())
    assert woken
    outbox.commit()
    assert len(outbox.take(10)) == 3
    outbox.close()


def test_an_alert_is_written_at_once_and_overtakes(tmp_path):
    outbox = make(tmp_path)
    woken = []
    outbox.wake = lambda: woken.append(1)
    outbox.put(REPORT, report())
    outbox.put(EVENT, event())
    assert woken
    assert outbox.due_in() == 0.0
    outbox.commit()
    assert [row.topic for row in outbox.take(10)] == [EVENT, REPORT]
    outbox.close()


def test_numbers_count_from_one_in_each_stream_of_each_boot(tmp_path):
    outbox = make(tmp_path)
    for _ in range(3):
        outbox.put(REPORT, report())
        outbox.put(EVENT, event())
    outbox.close()
    outbox = make(tmp_path, boot="b2")
    outbox.put(REPORT, report())
    outbox.flush()
    rows = outbox.take(10)
    numbers = [(m.boot, m.stream, m.sequence) for m in read(rows, UpMessage)]
    assert numbers == [("b1", "event", n) for n in (1, 2, 3)] + [
        *[("b1", "report/digits", n) for n in (1, 2, 3)],
        ("b2", "report/digits", 1),
    ]
    outbox.close()


def test_a_row_is_handed_out_once_and_leaves_after_its_acknowledgement(tmp_path):
    outbox = make(tmp_path)
    for number in range(5):
        outbox.put(REPORT, report(number))
    outbox.flush()
    first = outbox.take(2)
    rest = outbox.take(10)
    assert [r.effects["brightness"] for r in read(first + rest)] == [0, 1, 2, 3, 4]
    assert outbox.take(10) == []
    outbox.acknowledge(first[0].id)
    outbox.release(first[1].id)
    assert outbox.take(10) == [first[1]]
    outbox.close()
    again = make(tmp_path, boot="b2")
    assert [r.effects["brightness"] for r in read(again.take(10))] == [1, 2, 3, 4]
    again.close()


def test_a_message_too_large_for_the_broker_is_dropped_and_counted(tmp_path):
    outbox = make(tmp_path)
    outbox.put(SAMPLES, samples(900_000))
    outbox.put(REPORT, report())
    assert outbox.flush()
    assert [row.topic for row in outbox.take(10)] == [REPORT]
    assert outbox.dropped == 1
    outbox.close()
    again = make(tmp_path)
    assert again.dropped == 1
    again.close()


def test_full_outbox_merges_windows_before_it_drops_anything(tmp_path):
    outbox = make(tmp_path, max_bytes=1 << 16, group_rows=1)
    for number in range(1, 501):
        outbox.put(REPORT, report(number))
        outbox.flush()
    outbox.put(EVENT, event())
    outbox.flush()
    assert outbox.dropped == 0
    assert outbox.bytes <= 1 << 16
    rows = outbox.take(10_000)
    reports = read(rows[1:])
    assert len(reports) < 200
    assert sum(r.samples for r in reports) == 5000
    assert sum(r.counts["brightness"][0] for r in reports) == sum(range(1, 501))
    assert [r.sequence for r in reports] == sorted(r.sequence for r in reports)
    assert reports[-1].sequence == 500
    assert rows[0].topic == EVENT
    outbox.close()


def test_full_outbox_drops_the_oldest_plain_rows_but_no_events(tmp_path):
    outbox = make(tmp_path, max_bytes=1 << 16, group_rows=1)
    for number in range(60):
        outbox.put(EVENT, event(str(number)))
        outbox.put(SAMPLES, samples())
        outbox.flush()
    rows = outbox.take(10_000)
    assert [e.text for e in read([r for r in rows if r.topic == EVENT], Event)] == [str(n) for n in range(60)]
    kept = [s.sequence for s in read([r for r in rows if r.topic == SAMPLES], Samples)]
    assert kept == list(range(61 - len(kept), 61))
    assert outbox.dropped == 60 - len(kept) > 0
    outbox.close()


def test_rows_in_flight_are_neither_merged_nor_dropped(tmp_path):
    outbox = make(tmp_path, max_bytes=1 << 16, group_rows=1)
    for number in range(20):
        outbox.put(REPORT, report(number))
    outbox.flush()
    flying = outbox.take(20)
    for _ in range(60):
        outbox.put(SAMPLES, samples())
        outbox.flush()
    assert outbox.dropped > 0
    for row in flying:
        outbox.acknowledge(row.id)
    outbox.close()
    again = make(tmp_path, boot="b2", max_bytes=1 << 16, group_rows=1)
    assert all(row.topic == SAMPLES for row in again.take(1000))
    again.close()


def test_rows_that_an_earlier_process_may_have_sent_are_not_merged(tmp_path):
    outbox = make(tmp_path, group_rows=10)
    for number in range(200):
        outbox.put(REPORT, report(number))
    outbox.flush()
    sent = [row.payload for row in outbox.take(20)]
    outbox.close()
    again = make(tmp_path, boot="b2", max_bytes=1 << 16, group_rows=10)
    for number in range(200):
        again.put(REPORT, report(number))
    again.flush()
    assert again.rows < 400
    assert [row.payload for row in again.take(20)] == sent
    again.close()


WRITER = """
import sys
from pathlib import Path
from edge_agent.config import OutboxConfig
from edge_agent.outbox import Outbox
from shared.messages import Event
from shared import topics

outbox = Outbox(Path(sys.argv[1]), OutboxConfig(), boot="w")
number = 0
while True:
    for _ in range(5):
        number += 1
        event = Event(device="d", kind="fault", level="info", text=str(number))
        outbox.put(topics.up("s", "d", "event", "fault"), event)
    assert outbox.flush()
    print(number, flush=True)
"""


def test_killed_writer_loses_nothing_that_was_committed(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path / "outbox.db")], stdout=subprocess.PIPE, text=True
    )
    with process:
        for _ in range(20):
            committed = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
    committed = int(rest[-1]) if rest else committed
    outbox = make(tmp_path)
    events = read(outbox.take(100_000), Event)
    assert [e.text for e in events[:committed]] == [str(n) for n in range(1, committed + 1)]
    assert [e.sequence for e in events] == list(range(1, len(events) + 1))
    assert outbox.moved_aside is None
    outbox.close()


def test_a_file_that_is_no_database_is_moved_aside(tmp_path, caplog):
    (tmp_path / "outbox.db").write_bytes(b"not a database, certainly not one" * 100)
    outbox = make(tmp_path)
    assert outbox.moved_aside == tmp_path / "outbox.db.damaged"
    assert outbox.moved_aside.read_bytes().startswith(b"not a database")
    assert "moved to" in caplog.text
    outbox.put(EVENT, event())
    assert outbox.flush()
    outbox.close()


def test_a_file_damaged_while_in_use_is_replaced_and_old_acknowledgements_hit_nothing_new(tmp_path, monkeypatch):
    outbox = make(tmp_path)
    outbox.put(EVENT, event("old"))
    outbox.flush()
    old = outbox.take(1)[0]
    with monkeypatch.context() as broken:

        def malformed(*_args, **_named):
            raise sqlite3.DatabaseError("database disk image is malformed")

        broken.setattr(outbox._file, "write", malformed)
        outbox.put(EVENT, event("new"))
        assert not outbox.flush()
    assert outbox.moved_aside
    outbox.acknowledge(old.id)
    assert outbox.flush()
    assert [e.text for e in read(outbox.take(10), Event)] == ["new"]
    outbox.close()


def test_a_start_on_a_full_disk_loses_nothing_that_was_committed(tmp_path):
    fill = (
        "o = Outbox(path, OutboxConfig(), boot='a')\nfor _ in range(5): o.put(TOPIC, event())\no.flush(); os._exit(9)"
    )
    start = "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\nOutbox(path, OutboxConfig(), boot='b')"
    common = """
        import os, resource, signal, sys
        from pathlib import Path
        from edge_agent.config import OutboxConfig
        from edge_agent.outbox import Outbox
        from shared.messages import Event
        TOPIC, path = "sanderling/v1/s/d/up/event/fault", Path(sys.argv[1])
        def event(): return Event(device="d", kind="fault", level="error", text="x" * 500)
        """
    for program, expected in ((fill, ""), (start, "the disk is full or not writable")):
        code = textwrap.dedent(common) + program
        command = [sys.executable, "-c", code, str(tmp_path / "outbox.db")]
        assert expected in subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stderr
    outbox = Outbox(tmp_path / "outbox.db", OutboxConfig(), boot="c")
    assert (outbox.rows, outbox.moved_aside) == (5, None)
    outbox.close()


def test_a_full_disk_keeps_messages_in_memory_until_it_has_room(tmp_path):
    clock = Clock()
    outbox = make(tmp_path, clock=clock)
    outbox.put(EVENT, event("first"))
    outbox.flush()
    pages = outbox._file._connection.execute("PRAGMA page_count").fetchone()[0]
    outbox._file._connection.execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(20):
        outbox.put(SAMPLES, samples())
    assert not outbox.flush()
    assert "full" in outbox.failing
    assert outbox.rows == 21
    assert outbox.due_in() > 0
    outbox._file._connection.execute("PRAGMA max_page_count = 100000")
    clock.now += 2
    outbox.commit()
    assert outbox.failing == ""
    assert [s.sequence for s in read(outbox.take(100)[1:], Samples)] == list(range(1, 21))
    outbox.close()


def test_a_directory_that_does_not_exist_is_one_clear_error(tmp_path):
    with pytest.raises(StoreError, match=r"outbox .*missing/outbox.db cannot be opened"):
        Outbox(tmp_path / "missing" / "outbox.db", OutboxConfig(), boot="b")


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 50)), max_size=30), st.integers(0, 5000))
@settings(max_examples=60)
def test_merging_windows_never_changes_the_sums_of_a_release(parts, excess):
    rows = [
        (row, report(n, release=release, samples=n, sequence=row), 300) for row, (release, n) in enumerate(parts, 1)
    ]
    changed, swallowed = windows.plan(rows, excess)
    left = [changed.get(row, r) for row, r, _ in rows if row not in swallowed]
    assert not set(changed) & set(swallowed)
    for release in (1, 2):
        for number in range(18):
            before = sum(r.counts["brightness"][number] for _, r, _ in rows if r.release == release)
            assert sum(r.counts["brightness"][number] for r in left if r.release == release) == before
    assert sum(r.samples for r in left) == sum(r.samples for _, r, _ in rows)
    assert [r.sequence for r in left] == sorted(r.sequence for r in left)


def test_merged_windows_weigh_accuracy_by_truths_and_shares_by_samples():
    first = report(samples=100, truths=10, accuracy=0.5, estimated_accuracy=0.9, missing=0.2)
    second = report(samples=300, truths=30, accuracy=0.9, estimated_accuracy=0.5, absolute_error=2.0)
    merged = windows.merge(first, second)
    assert (merged.truths, merged.absolute_error) == (40, 2.0)
    assert merged.accuracy == pytest.approx(0.8)
    assert merged.estimated_accuracy == pytest.approx(0.6)
    assert merged.missing == pytest.approx(0.05)
    nothing = windows.merge(report(), report())
    assert (nothing.truths, nothing.accuracy, nothing.estimated_accuracy) == (0, None, None)


def test_windows_of_another_profile_are_not_merged():
    assert windows.plan([(1, report(), 300), (2, report(profile="1" * 16), 300)], 1000) == ({}, [])
