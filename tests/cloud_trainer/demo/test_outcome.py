from __future__ import annotations

import json

import pytest
from msgspec import structs

from cloud_trainer.demo import data
from cloud_trainer.demo.figures import Mark, levels
from cloud_trainer.demo.outcome import Times, cause, judge, rolling, wilson
from cloud_trainer.demo.page import percent, write
from cloud_trainer.demo.progress import Progress
from cloud_trainer.demo.record import Record, parse_step, read_answers
from shared import messages, topics
from shared.errors import MessageError
from tests.cloud_trainer.demo.simulated import DONE_AT, RIGHT, SLOW, T0, answers, rolled_back_story, steps, story


def test_a_loop_that_closed_is_told_so():
    told = story()
    assert told.result.closed
    assert told.result.failures == ()
    legs = told.result.times
    assert legs.drift_to_alarm == pytest.approx(3.0)
    assert legs.alarm_to_release == pytest.approx(23.0)
    assert legs.release_to_fleet == pytest.approx(DONE_AT + 3 - 40.0)


def test_figures_of_each_phase_are_those_of_its_answers():
    told = story()
    for device in told.result.devices:
        for name, found in device.phases.items():
            expected = RIGHT[name] if device.bad else RIGHT["before"]
            assert found.low < expected < found.high or abs(found.accuracy - expected) < 0.015, (device.device, name)


def test_a_device_that_does_not_recover_is_a_failure():
    told = story({"before": 0.97, "during": 0.55, "after": 0.90})
    assert len(told.result.failures) == 2
    assert "cam-1 was right on 9" in told.result.failures[0]


def test_what_is_missing_is_named():
    told = story()
    found = judge(told.result.devices, steps(), Times(None, None, None))
    assert found[0] == "the controller never confirmed the drift"
    line = {"time": 1, "what": "incident", "incident": 1, "state": "dismissed", "text": "no labels", "details": {}}
    found = judge(told.result.devices, [*steps(), parse_step(json.dumps(line))], Times(1.0, None, None))
    assert found[0] == "no new release was published: no labels"


def test_the_headline_of_a_loop_that_stayed_open_names_the_cause():
    told = rolled_back_story()
    assert told.result.headline == f"the loop did not close: release 2 was rolled back: {SLOW}"
    assert told.result.failures == tuple(f"cam-{n} runs release 1 instead of 2" for n in (1, 2, 3))
    assert story().result.headline == "the loop closed: every device runs release 2"
    open_ended = story({"before": 0.97, "during": 0.55, "after": 0.80}).result
    assert open_ended.headline == f"the loop did not close: {open_ended.failures[0]}"


def test_the_cause_is_the_last_that_the_controller_gave_up():
    def step(what, state, text):
        line = {"time": 1, "what": what, what: 1, "state": state, "text": text, "details": {}}
        return parse_step(json.dumps(line))

    noise, retry = step("incident", "dismissed", "no labels"), step("incident", "suspected", "cam-1 raised an alarm")
    assert cause([]) == ""
    assert cause([noise, retry]) == "the controller gave the incident up: no labels"
    assert cause([noise, retry, step("rollout", "done", "3 devices run it")]) == ""
    aborted = step("rollout", "aborted", "release 2: cam-1 refused it: self-test")
    assert cause([aborted]) == "release 2 was being rolled back at the end: cam-1 refused it: self-test"


def test_an_alarm_of_the_clean_camera_is_a_failure():
    told = story()
    clean = structs.replace(told.result.devices[2], alarms=1, release=1)
    found = judge([*told.result.devices[:2], clean], steps(), told.result.times)
    assert found == ["cam-3 runs release 1 instead of 2", "cam-3 has a clean camera and raised 1 alarm(s)"]


def test_too_few_answers_are_a_failure():
    told = story()
    first = told.result.devices[0]
    short = structs.replace(first, phases=first.phases | {"after": structs.replace(first.phases["after"], samples=999)})
    assert judge([short], steps(), told.result.times) == ["cam-1 has 999 answers after, fewer than 1000"]


def test_wilsons_interval_holds_at_the_edges():
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(100, 100)
    assert 0.95 < low < 1
    assert high == pytest.approx(1.0)


def test_rolling_accuracy_counts_the_last_answers():
    given = answers("cam-1", False, 1000.0)
    when, share = rolling(given, 100)
    assert len(when) == len(given) - 99
    assert share[0] == (given.answer[:100] == given.truth[:100]).mean()
    assert share[-1] == (given.answer[-100:] == given.truth[-100:]).mean()


def test_answers_are_read_with_their_truth(tmp_path):
    path = tmp_path / "answers.jsonl"
    truth = data.stream_labels("cam-1", 9, 0, 5)
    rows = [
        {"id": data.sample_id("cam-1", i), "label": str((truth[i] + (i == 2)) % 10), "score": 0.9, "time": T0 + i,
         "latency_us": 30.5, "release": 1, "variant": "int8-litert"}
        for i in (0, 2, 4)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"id": "cam-1-0000')
    found = read_answers(path, "cam-1", 9)
    assert found.index.tolist() == [0, 2, 4]
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.time.tolist() == [T0, T0 + 2, T0 + 4]
    assert len(read_answers(tmp_path / "none", "cam-1", 9)) == 0
    with pytest.raises(MessageError, match="not an answer of cam-2"):
        read_answers(path, "cam-2", 9)


def test_a_release_counts_when_its_trial_is_won():
    record = Record.empty()
    topic = topics.up("demo", "cam-1", "reported", "digits")
    for release, trial in ((1, False), (2, True)):
        told = messages.Reported(device="cam-1", model="digits", time=T0, release=release, trial=trial)
        record.add(topic, messages.encode(told), messages.JSON)
    assert record.runs("cam-1") == 0
    told = messages.Reported(device="cam-1", model="digits", time=T0 + 1, release=2)
    record.add(topic, messages.encode(told), messages.JSON)
    record.add(topic, messages.encode(told), messages.JSON)
    assert record.runs("cam-1") == 2
    assert len(record.changes["cam-1"]) == 3


def test_reports_and_alarms_are_kept():
    record = Record.empty()
    report = messages.Report(
        device="cam-1", time=T0, model="digits", release=1, variant="v", baseline="default", profile="00", samples=32,
        seconds=1.0, counts={}, evidence=0.5, effects={"brightness": -2.0, "noise": 1.0},
    )  # fmt: skip
    record.add(topics.up("demo", "cam-1", "report", "digits"), messages.encode(report), messages.JSON)
    event = messages.Event(device="cam-1", time=T0, kind="drift", level="warning", text="contrast", release=1)
    record.add(topics.up("demo", "cam-1", "event", "drift"), messages.encode(event), messages.JSON)
    record.add(topics.up("demo", "cam-1", "state", "digits"), b"not looked at", messages.JSON)
    assert record.points["cam-1"][0].effect == 2.0
    assert [alarm.text for alarm in record.alarms("cam-1")] == ["contrast"]


def test_the_page_is_whole_and_needs_nothing_else(tmp_path):
    told = story()
    page = write(told, tmp_path / "report").read_text()
    assert page.count("<svg") == 5
    assert "the loop closed" in page
    # names of XML vocabularies are no fetches
    fetched = [word for word in ("<script", "<link", "@import", 'src="http', "url(http") if word in page]
    assert fetched == []
    for device in told.result.devices:
        assert percent(device.phases["during"].accuracy) in page
    result = json.loads((tmp_path / "report" / "result.json").read_text())
    assert result["devices"][0]["phases"]["before"]["samples"] == 1400
    assert result["failures"] == []


def test_what_did_not_happen_stands_on_the_page(tmp_path):
    told = story({"before": 0.97, "during": 0.55, "after": 0.80})
    page = write(told, tmp_path).read_text()
    assert "the loop did not close" in page
    assert told.result.failures[0] in page


def test_a_withdrawn_release_has_no_accuracy_on_the_page(tmp_path):
    told = rolled_back_story()
    page = write(told, tmp_path).read_text()
    assert "release 2 was rolled back: cam-1: p50" in page
    assert "right after: this phase is unfinished" in page
    after = percent(told.result.devices[0].phases["after"].accuracy)
    assert page.count(after) == page.count(f'<span class="unfinished">{after}')
    assert "rolled_back" not in page
    assert json.loads((tmp_path / "result.json").read_text())["cause"] == told.result.cause


def test_names_of_moments_read_in_order_and_stay_clear_of_lines():
    moments = [Mark(8.0, "cameras go bad"), Mark(8.4, "drift confirmed"), Mark(60.0, "canary"),
               Mark(64.0, "everyone"), Mark(70.0, "fleet on release 2")]  # fmt: skip
    found, right = levels(moments, 74.0)
    assert found == [1, 0, 2, 1, 0]
    assert right > 84
    assert levels([], 74.0) == ([], pytest.approx(74.74))


def test_progress_without_a_terminal_is_plain_lines(capsys):
    progress = Progress()
    progress.stage("training")
    progress.tick()
    progress.note("cam-1 went bad")
    progress.stage("measuring")
    progress.end()
    lines = [line[10:] for line in capsys.readouterr().err.splitlines()]
    assert [line.split(" (")[0].strip() for line in lines] == [
        "training ...", "cam-1 went bad", "training: done", "measuring ...", "measuring: done"
    ]  # fmt: skip
