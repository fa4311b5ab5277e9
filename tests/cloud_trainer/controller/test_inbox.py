"""What is taken in, once, and what is refused."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from cloud_trainer.controller import records, schema
from cloud_trainer.controller.inbox import Arrived, take
from cloud_trainer.controller.incidents import Facts, open_incident
from cloud_trainer.controller.ingest import commit_group
from cloud_trainer.controller.store import BAD_PAYLOAD_BYTES, BAD_ROWS, DAY, Store, insert_ignore, prune, upsert
from shared import messages, topics
from shared.errors import MessageError, StoreError
from tests.cloud_trainer.controller.fake import MODEL, SITE, drift_event, report, samples

JSON = messages.JSON


def arrived(kind: str, message: messages.Message, name: str = "", device: str = "cam-1", now: float = 10.0) -> Arrived:
    topic = topics.truth(SITE, device, name) if kind == "truth" else topics.up(SITE, device, kind, name)
    return Arrived(topic, messages.encode(message), JSON, now)


def commit(store: Store, *group: Arrived):
    complaints = []
    return commit_group(store, SITE, group, complaints.append), complaints


def rows(store: Store, table: sa.Table):
    with store.reading() as connection:
        return connection.execute(table.select()).all()


def ask(store: Store, *, count: int = 50, device: str = "cam-1") -> str:
    """A request for samples as an incident makes it."""
    with store.transaction() as connection:
        found = open_incident(MODEL, Facts(now=1.0, current=1, alarmed=(device,)), mark=0, since=0)
        incident = records.add_incident(connection, found, 1.0)
        command = messages.Command(id="incident-1-1", model=MODEL, count=count)
        records.add_command(connection, device, "samples", command, incident=incident.id, total=count)
    return "incident-1-1"


def test_a_message_that_comes_twice_counts_once(store, release) -> None:
    window = arrived("report", report(release, "cam-1", 1), MODEL)
    first, _ = commit(store, window, window)
    again, _ = commit(store, window)
    assert (first.stored, first.duplicates, again.duplicates) == (1, 1, 1)
    assert len(rows(store, schema.windows)) == 1
    after_reboot = arrived("report", report(release, "cam-1", 1, boot="c"), MODEL)
    assert commit(store, after_reboot)[0].stored == 1
    assert len(rows(store, schema.windows)) == 2


BAD = {
    "topic": Arrived("other/topic", b"{}", JSON, 1.0),
    "site": Arrived("sanderling/v1/elsewhere/cam-1/up/status", b'{"device":"cam-1","state":"online"}', JSON, 1.0),
    "kind": Arrived("sanderling/v1/plant/cam-1/up/gossip", b"{}", JSON, 1.0),
    "json": Arrived("sanderling/v1/plant/cam-1/up/status", b"{", JSON, 1.0),
    "content type": Arrived("sanderling/v1/plant/cam-1/up/status", b"{}", "text/plain", 1.0),
    "other device": arrived("status", messages.Status(device="cam-2", state="online")),
    "unknown state": arrived("status", messages.Status(device="cam-1", state="asleep")),
    "other model": arrived("event", drift_event("cam-2", 1), "drift"),
    "no boot": arrived("event", drift_event("cam-1", 1, boot=""), "drift"),
    "number beyond the column": arrived("event", drift_event("cam-1", 1 << 63), "drift"),
    "not asked for": arrived("samples", samples("cam-1", "nobody", 2), MODEL),
}


@pytest.mark.parametrize("what", BAD)
def test_a_malformed_message_spoils_only_itself(store, release, what) -> None:
    good = arrived("report", report(release, "cam-3", 1), MODEL, device="cam-3")
    counters, complaints = commit(store, BAD[what], good)
    assert (counters.malformed, counters.stored) == (1, 1)
    assert len(complaints) == 1
    assert "\n" not in complaints[0]
    (kept,) = rows(store, schema.bad_messages)
    assert kept.payload == BAD[what].payload[:BAD_PAYLOAD_BYTES]
    assert [row.device for row in rows(store, schema.windows)] == ["cam-3"]
    assert [row.device for row in rows(store, schema.devices)] == ["cam-3"]
    assert len(rows(store, schema.messages)) == 1


def test_a_topic_of_another_model_is_refused(store, release) -> None:
    with pytest.raises(MessageError, match="other"), store.transaction() as connection:
        take(connection, SITE, arrived("report", report(release, "cam-1", 1), "other"))


def test_a_database_that_fails_stores_nothing_of_a_group(store, release) -> None:
    with store.transaction() as connection:
        schema.truth.drop(connection)
    truth = messages.Truth(model=MODEL, source="x", labels=[messages.TruthLabel(id="1", label="two")])
    with pytest.raises(StoreError):
        commit(store, arrived("report", report(release, "cam-1", 1), MODEL), arrived("truth", truth, MODEL))
    assert rows(store, schema.windows) == []
    assert rows(store, schema.messages) == []


def test_devices_appear_with_what_they_say(store) -> None:
    info = messages.Info(
        device="cam-1",
        time=1.0,
        machine="x",
        system="y",
        cpus=1,
        memory_mib=1,
        python="3",
        agent="0",
        backends={},
        models=[MODEL],
    )
    reported = messages.Reported(device="cam-1", model=MODEL, time=1.0, release=1, variant="fp32-onnx")
    online = arrived("status", messages.Status(device="cam-1", state="online"))
    commit(store, arrived("info", info), online, arrived("reported", reported, MODEL), online)
    (device,) = rows(store, schema.devices)
    assert (device.online, json.loads(device.info)["machine"]) == (1, "x")
    (running,) = rows(store, schema.device_models)
    assert (running.release, running.variant) == (1, "fp32-onnx")
    assert [row.state for row in rows(store, schema.log)] == ["online", "runs"]
    commit(store, arrived("status", messages.Status(device="cam-1", state="offline")))
    assert rows(store, schema.devices)[0].online == 0


def test_good_news_is_kept_but_not_a_line_of_the_timeline(store) -> None:
    update = drift_event("cam-1", 1)
    update.kind, update.level = "update", "info"
    commit(store, arrived("event", update, "update"))
    assert len(rows(store, schema.events)) == 1
    assert rows(store, schema.log) == []
    commit(store, arrived("event", drift_event("cam-1", 2), "drift"))
    assert [row.what for row in rows(store, schema.log)] == ["alarm"]


def test_a_new_release_ends_the_alarms_of_the_former_one(store) -> None:
    commit(store, arrived("event", drift_event("cam-1", 1), "drift"))
    assert len(rows(store, schema.alarms)) == 1
    for release, left in ((1, 1), (2, 0)):
        reported = messages.Reported(device="cam-1", model=MODEL, time=1.0, release=release)
        commit(store, arrived("reported", reported, MODEL))
        assert len(rows(store, schema.alarms)) == left


def test_no_device_fills_more_than_its_share(store) -> None:
    request = ask(store, count=50)
    first = arrived("samples", samples("cam-1", request, 40, sequence=1, last=False), MODEL)
    overlap = arrived("samples", samples("cam-1", request, 40, start=30, sequence=2), MODEL)
    commit(store, first)
    assert rows(store, schema.commands)[0].answered is None
    commit(store, overlap)
    assert [row.sample for row in rows(store, schema.samples)] == [f"cam-1-{i}" for i in range(50)]
    assert rows(store, schema.commands)[0].answered == 10.0


def test_samples_whose_sizes_disagree_are_refused(store) -> None:
    request = ask(store)
    whole = samples("cam-1", request, 2)
    for number, wrong in enumerate(
        [{"data": whole.data[:-1]}, {"labels": ["one"]}, {"ids": ["", "b"]}, {"dtype": "object"}, {"shape": [16, 0]}]
    ):
        message = samples("cam-1", request, 2, sequence=number)
        for name, value in wrong.items():
            setattr(message, name, value)
        assert commit(store, arrived("samples", message, MODEL))[0].malformed == 1
    assert rows(store, schema.samples) == []


def test_another_device_cannot_answer_for_the_one_that_was_asked(store) -> None:
    request = ask(store)
    other = arrived("samples", samples("cam-2", request, 2), MODEL, device="cam-2")
    assert commit(store, other)[0].malformed == 1


def test_the_device_of_a_label_is_that_of_the_topic_and_the_last_word_counts(store) -> None:
    def truth(label: str, device: str) -> Arrived:
        labels = [messages.TruthLabel(id="cam-1-1", label=label)]
        return arrived("truth", messages.Truth(model=MODEL, source="ann", labels=labels), MODEL, device=device)

    commit(store, truth("one", "cam-1"), truth("two", "cam-1"), truth("nine", "cam-2"))
    found = {(row.device, row.label) for row in rows(store, schema.truth)}
    assert found == {("cam-1", "two"), ("cam-2", "nine")}
    feedback = messages.Feedback(
        device="cam-1",
        boot="b",
        stream="f",
        sequence=1,
        model=MODEL,
        labels=[messages.TruthLabel(id="cam-1-2", label="six")],
    )
    commit(store, arrived("feedback", feedback, MODEL))
    assert ("cam-1", "six") in {(row.device, row.label) for row in rows(store, schema.truth)}


def test_a_refusal_is_noted_and_a_grant_waits_for_the_samples(store) -> None:
    request = ask(store)

    def reply(ok: bool, sequence: int) -> Arrived:
        message = messages.Reply(
            device="cam-1", boot="b", stream="r", sequence=sequence, id=request, verb="samples", ok=ok, text="t"
        )
        return arrived("reply", message, "samples")

    commit(store, reply(ok=True, sequence=1))
    assert rows(store, schema.commands)[0].answered is None
    commit(store, reply(ok=False, sequence=2))
    assert (rows(store, schema.commands)[0].answered, rows(store, schema.commands)[0].ok) == (10.0, 0)


def test_a_database_of_another_version_is_refused(tmp_path) -> None:
    first = Store.in_workspace(tmp_path)
    with first.transaction() as connection:
        upsert(connection, schema.meta, {"key": "schema", "value": "99"})
    first.close()
    with pytest.raises(StoreError, match="99"):
        Store.in_workspace(tmp_path)


def test_a_transaction_that_fails_leaves_nothing(store) -> None:
    def fail() -> None:
        with store.transaction() as connection:
            assert insert_ignore(connection, schema.meta, {"key": "x", "value": "y"})
            assert not insert_ignore(connection, schema.meta, {"key": "x", "value": "z"})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [row.key for row in rows(store, schema.meta)] == ["schema"]


def test_old_rows_are_forgotten_and_new_ones_kept(store, release) -> None:
    old = arrived("report", report(release, "cam-1", 1), MODEL, now=0.0)
    new = arrived("report", report(release, "cam-1", 2), MODEL, now=31 * DAY)
    commit(store, old, new, *[BAD["json"]] * (BAD_ROWS + 5))
    with store.transaction() as connection:
        connection.execute(schema.windows.update().values(round=1))
        prune(connection, 31 * DAY)
    assert [row.received for row in rows(store, schema.windows)] == [31 * DAY]
    assert len(rows(store, schema.bad_messages)) == BAD_ROWS
