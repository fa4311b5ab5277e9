"""What is taken in, once, and what is refused."""

from __future__ import annotations

import json

import msgspec
import pytest
import sqlalchemy as sa

from cloud_trainer.controller import inbox, records, schema
from cloud_trainer.controller.inbox import MODELS_MAX, Arrived, take
from cloud_trainer.controller.incidents import Facts, dismiss, open_incident
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


def packed(kind: str, message: messages.Message, **more: object) -> Arrived:
    data = msgspec.to_builtins(message, builtin_types=(bytes,)) | more
    return Arrived(topics.up(SITE, "cam-1", *kind.split()), msgspec.msgpack.encode(data), messages.MSGPACK, 10.0)


def test_what_only_messagepack_can_say_stops_nobody(store, release) -> None:
    request = ask(store)
    info = messages.Info(
        device="cam-1", time=1.0, machine="", system="", cpus=1, memory_mib=1, python="", agent="", backends={}
    )
    hostile = [
        packed("event drift", drift_event("cam-1", 1), time=float("nan")),
        packed("info", info, extra=msgspec.msgpack.Ext(5, b"")),
        packed(f"samples {MODEL}", samples("cam-1", request, 2), scores=[float("nan"), 0.5]),
    ]
    good = arrived("report", report(release, "cam-3", 1), MODEL, device="cam-3")
    counters, _ = commit(store, *hostile, good)
    assert (counters.malformed, counters.stored) == (len(hostile), 1)


@pytest.mark.parametrize(
    "error", [TypeError("x"), KeyError("x"), RecursionError(), sa.exc.IntegrityError("", {}, Exception("NOT NULL"))]
)
def test_a_message_that_breaks_its_handler_spoils_only_itself(store, release, monkeypatch, error) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setitem(inbox._HANDLERS, messages.Event, fail)
    event = arrived("event", drift_event("cam-1", 1), "drift")
    counters, complaints = commit(store, event, arrived("report", report(release, "cam-1", 1), MODEL))
    assert (counters.malformed, counters.stored, len(complaints)) == (1, 1, 1)


def test_a_device_cannot_pass_for_one_who_knows_the_truth(store) -> None:
    def label(kind: str, text: str, sequence: int = 1) -> Arrived:
        labels = [messages.TruthLabel(id="cam-1-1", label=text)]
        if kind == "truth":
            return arrived(kind, messages.Truth(model=MODEL, source="device", labels=labels), MODEL)
        feedback = messages.Feedback(
            device="cam-1", boot="b", stream="f", sequence=sequence, model=MODEL, labels=labels
        )
        return arrived(kind, feedback, MODEL)

    truth = messages.Truth(model=MODEL, source="ann", labels=[messages.TruthLabel(id="cam-1-1", label="one")])
    forged = Arrived(topics.up(SITE, "cam-1", "truth", MODEL), messages.encode(truth), JSON, 1.0)
    assert commit(store, forged)[0].malformed == 1
    assert rows(store, schema.truth) == []
    for kind, text, sequence, found in (
        ("feedback", "one", 1, "one"),
        ("feedback", "two", 2, "two"),
        ("truth", "six", 0, "six"),
        ("feedback", "one", 3, "six"),
        ("truth", "ten", 0, "ten"),
    ):
        commit(store, label(kind, text, sequence))
        assert [row.label for row in rows(store, schema.truth)] == [found]


def test_what_a_device_adds_to_an_event_is_bounded_and_replaces_nothing(store) -> None:
    event = drift_event("cam-1", 1)
    deep: object = 1
    for _ in range(500):
        deep = [deep]
    event.details = {
        "release": 99,
        "effects": {"brightness": 1.5},
        "features": ["a", "b"],
        "long": "x" * 100_000,
        "many": list(range(10_000)),
        "deep": {"in": deep},
    } | {str(i): i for i in range(1000)}
    assert commit(store, arrived("event", event, "drift"))[0].stored == 1
    (line,) = rows(store, schema.log)
    assert len(line.details) < 20_000
    details = json.loads(line.details)
    assert (details["release"], details["effects"], details["features"]) == (1, {"brightness": 1.5}, ["a", "b"])


def test_unknown_fields_are_not_stored(store) -> None:
    payload = b'{"device":"cam-1","model":"digits","time":1.0,"release":1,"new":' + b"[" * 900 + b"]" * 900 + b"}"
    commit(store, Arrived(topics.up(SITE, "cam-1", "reported", MODEL), payload, JSON, 1.0))
    assert "new" not in rows(store, schema.device_models)[0].reported


def test_no_device_fills_the_database_with_models(store) -> None:
    for number in range(MODELS_MAX + 3):
        state = messages.State(device="cam-1", model=f"m{number}", time=1.0, release=1, variant="v")
        commit(store, arrived("state", state, f"m{number}"))
    assert len(rows(store, schema.device_models)) == MODELS_MAX


def test_samples_for_another_model_or_after_the_incident_are_not_taken(store) -> None:
    request = ask(store)
    other = samples("cam-1", request, 2)
    other.model = "other"
    assert commit(store, arrived("samples", other, "other"))[0].malformed == 1
    with store.transaction() as connection:
        (incident,) = records.incidents_of(connection)
        records.save_incident(connection, dismiss(incident, 2.0, "over"))
    assert commit(store, arrived("samples", samples("cam-1", request, 2, sequence=2), MODEL))[0].stored == 1
    assert rows(store, schema.samples) == []


def test_what_belongs_to_an_incident_is_forgotten_long_after_it(store) -> None:
    request = ask(store)
    commit(store, arrived("samples", samples("cam-1", request, 2), MODEL))
    for closed, left in ((False, 2), (True, 0)):
        with store.transaction() as connection:
            if closed:
                records.save_incident(connection, dismiss(records.incidents_of(connection)[0], 2.0, "over"))
            prune(connection, 31 * DAY)
        assert len(rows(store, schema.samples)) == left
    assert rows(store, schema.commands) == []
    assert len(rows(store, schema.incidents)) == 1


def test_too_many_rows_are_forgotten_however_new_and_the_newest_number_is_never_given_again(
    store, release, monkeypatch
) -> None:
    for name in ("LOG_ROWS", "EVENT_ROWS", "WINDOW_ROWS", "MESSAGE_ROWS", "TRUTH_ROWS_PER_DEVICE"):
        monkeypatch.setattr(f"cloud_trainer.controller.store.{name}", 3)
    labels = [messages.TruthLabel(id=str(i), label="one") for i in range(9)]
    for number in range(1, 9):
        commit(
            store,
            arrived("report", report(release, "cam-1", number), MODEL),
            arrived("event", drift_event("cam-1", number), "drift", now=float(number)),
            arrived("truth", messages.Truth(model=MODEL, source="a", labels=labels[number : number + 1]), MODEL),
        )
    with store.transaction() as connection:
        connection.execute(schema.windows.update().values(round=1))
        prune(connection, 100.0)
        assert [row.sequence for row in connection.execute(schema.messages.select())] == [7, 8, 8]
    assert [len(rows(store, table)) for table in (schema.windows, schema.events, schema.log)] == [3, 3, 3]
    assert len(rows(store, schema.truth)) <= 3
    with store.transaction() as connection:
        prune(connection, 99 * DAY)
    assert [row.id for row in rows(store, schema.windows)] == [8]
    assert rows(store, schema.alarms) == []


def test_a_workspace_of_another_fleet_is_refused(store) -> None:
    store.claim("fleet", "abc")
    store.claim("fleet", "abc")
    with pytest.raises(StoreError, match="is about fleet abc, not xyz"):
        store.claim("fleet", "xyz")


def test_no_password_of_a_database_is_shown() -> None:
    with pytest.raises(StoreError) as caught:
        Store("mysql://ann:s3cret@host/db")
    assert "s3cret" not in str(caught.value)
