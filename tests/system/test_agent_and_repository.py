"""An agent process, a signed repository, a broker: what happens when each of them is broken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_trainer.registry import Registry
from shared import messages
from tests.system.site import MODEL, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as running:
        yield running


def test_an_agent_installs_what_is_desired_answers_and_reports(site: Site) -> None:
    site.publish(1)
    agent = site.agent("cam-1").start()
    site.desire("cam-1", 1)
    reported = site.wait_release("cam-1", 1)
    chosen = [row for row in reported.selection if row.chosen]
    assert [row.variant for row in chosen] == [reported.variant]
    assert chosen[0].p50_us
    assert chosen[0].why

    reports = site.wait("two reports", lambda: _reports(site, 2))
    assert all(r.release == 1 and r.samples > 0 and r.evidence < 1 for r in reports)
    assert sum(sum(bins) for bins in reports[0].counts.values()) >= reports[0].samples
    answers = site.wait("answers", lambda: len(agent.answers()) > 300 and agent.answers())
    assert [a["id"] for a in answers] == [f"cam-1-{i:06d}" for i in range(len(answers))]
    assert {a["release"] for a in answers} == {1}

    assert agent.stop() == 0
    status = site.wait("offline", lambda: site.messages("cam-1", "up/status", messages.Status)[-1].state == "offline")
    assert status


def test_an_update_loses_no_sample(site: Site) -> None:
    site.publish(1)
    agent = site.agent("cam-1").start()
    site.desire("cam-1", 1)
    site.wait_release("cam-1", 1)
    site.publish(2)
    site.desire("cam-1", 2)
    site.wait_release("cam-1", 2)
    answers = site.wait(
        "answers of release 2", lambda: sum(a["release"] == 2 for a in agent.answers()) > 100 and agent.answers()
    )
    assert [a["id"] for a in answers] == [f"cam-1-{i:06d}" for i in range(len(answers))]
    assert [a["release"] for a in answers] == sorted(a["release"] for a in answers)


def test_a_damaged_variant_in_the_repository_is_refused_and_what_runs_keeps_running(site: Site) -> None:
    site.publish(1)
    agent = site.agent("cam-1").start()
    site.desire("cam-1", 1)
    site.wait_release("cam-1", 1)
    site.publish(2)
    for path in (site.registry.repository / "targets" / MODEL / "2").rglob("*"):
        if path.suffix in {".onnx", ".tflite"}:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(bytes(data))
    site.desire("cam-1", 2)
    refused = site.wait("a refusal", lambda: _refusal(site, 2))
    assert refused.release == 1
    assert refused.error
    faults = site.wait("a fault", lambda: site.messages("cam-1", "up/event/fault", messages.Event))
    assert faults[-1].level == "error"
    before = len(agent.answers())
    site.wait("more answers", lambda: len(agent.answers()) > before + 100)
    assert {a["release"] for a in agent.answers()} == {1}


def test_a_release_signed_by_somebody_else_is_refused(site: Site, tmp_path: Path) -> None:
    site.publish(1)
    other = Registry.create(tmp_path / "other", [MODEL], now=time.time())
    agent = site.agent("cam-1", enrolled_by=other).start()
    site.desire("cam-1", 1)
    refused = site.wait("a refusal", lambda: _refusal(site, 1))
    assert refused.release == 0
    assert refused.error
    assert agent.answers() == []


def test_an_agent_killed_in_full_flight_comes_back_alone_with_its_release(site: Site) -> None:
    site.publish(1)
    agent = site.agent("cam-1").start()
    site.desire("cam-1", 1)
    site.wait_release("cam-1", 1)
    site.wait("a report", lambda: _reports(site, 1))
    agent.kill()
    # neither the repository nor anyone who desires anything is needed to go on
    site.http.shutdown()
    seen = len(site.listener.messages)
    agent.start()
    site.wait("reported again", lambda: _since(site, seen, f"up/reported/{MODEL}"))
    assert messages.decode(_since(site, seen, f"up/reported/{MODEL}")[-1].payload, messages.Reported).release == 1
    boots = site.wait("reports of two boots", lambda: _boots(site, 2))
    for sequences in boots.values():
        assert sorted(set(sequences)) == list(range(1, max(sequences) + 1)), "a committed report was lost"


def test_a_broker_that_forgets_everything_gets_it_all_again(site: Site) -> None:
    site.publish(1)
    agent = site.agent("cam-1").start()
    site.desire("cam-1", 1)
    site.wait_release("cam-1", 1)
    site.wait("a report", lambda: _reports(site, 1))
    site.broker.stop()
    before = len(agent.answers())
    site.wait("answers while the broker is away", lambda: len(agent.answers()) > before + 300)
    seen = len(site.listener.messages)
    site.broker.start()
    site.wait("info and reported again", lambda: _since(site, seen, "up/info") and _since(site, seen, "up/reported"))
    reports = site.wait("fresh reports", lambda: len(_since(site, seen, "up/report/")) >= 2 and _reports(site, 3))
    sequences = sorted({r.sequence for r in reports})
    # the listener was away as well: what the broker took while we were not subscribed is not a loss of the agent's
    assert sequences == sorted(sequences)
    total = sum({r.sequence: r.samples for r in reports}.values())
    assert total <= len(agent.answers()) + 200
    # commands reach it again
    command = messages.Command(id="c1", model=MODEL)
    site.listener.publish("sanderling/v1/plant/cam-1/down/cmd/report", messages.encode(command))
    reply = site.wait("a reply", lambda: site.messages("cam-1", "up/reply/report", messages.Reply))
    assert reply[-1].id == "c1"
    assert reply[-1].ok


def test_a_second_agent_on_the_same_state_is_told_so(site: Site) -> None:
    agent = site.agent("cam-1").start()
    site.wait("online", lambda: site.messages("cam-1", "up/status", messages.Status))
    first = agent.process
    agent.start()
    assert agent.process
    assert agent.process.wait(15) == 1
    assert "edge-agent run:" in agent.log
    assert "Traceback" not in agent.log
    agent.process = first


def _reports(site: Site, count: int) -> list[messages.Report]:
    found = site.messages("cam-1", f"up/report/{MODEL}", messages.Report)
    return found if len(found) >= count else []


def _refusal(site: Site, version: int) -> messages.Reported | None:
    found = site.messages("cam-1", f"up/reported/{MODEL}", messages.Reported)
    return next((r for r in found if r.refused == version), None)


def _since(site: Site, seen: int, part: str) -> list:
    return [m for m in site.listener.messages[seen:] if part in m.topic]


def _boots(site: Site, count: int) -> dict[str, list[int]]:
    boots: dict[str, list[int]] = {}
    for report in _reports(site, 1):
        boots.setdefault(report.boot, []).append(report.sequence)
    return boots if len(boots) >= count and all(len(s) > 1 for s in boots.values()) else {}
