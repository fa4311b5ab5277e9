"""``demo-report/index.html``: one page that needs nothing else, and ``result.json`` beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.figure import Figure

from cloud_trainer.demo import data, figures
from cloud_trainer.demo.outcome import PHASES, DeviceResult, Result, phases
from cloud_trainer.demo.record import Answers, Record, Step
from shared.files import write_atomic
from shared.messages import SelectionRow

DEVICES_TEXT = (
    "Accuracy with its number of answers. The p50 is of the running device: between two pictures it sleeps, so each "
    "finds cold caches and a core that has to wake up; that makes it several times the p50 that the device "
    "measured back to back when it chose (below)."
)
BENCH_TEXT = "Measured on the device before it took the release: the same few samples again and again, back to back."


class Story:
    """All that the page shows: ``bad`` maps each bad camera to (index, time) of its first bad picture."""

    def __init__(
        self,
        result: Result,
        answers: Mapping[str, Answers],
        record: Record,
        steps: Sequence[Step],
        bad: Mapping[str, tuple[int, float]],
    ) -> None:
        self.result, self.answers, self.record, self.steps, self.bad = result, answers, record, steps, bad
        whens = [found.time for found in answers.values() if len(found)]
        self.start = min((float(when[0]) for when in whens), default=0.0)
        self.end = max((float(when[-1]) for when in whens), default=1.0)

    def drifted(self) -> dict[str, Answers]:
        """The answers of the bad cameras' devices, together, by phase."""
        parts = [phases(self.answers[device], index, when) for device, (index, when) in self.bad.items()]
        return {name: _join([part[name] for part in parts]) for name in PHASES}


def _join(parts: Sequence[Answers]) -> Answers:
    names = ("index", "answer", "truth", "release", "time", "latency_us")
    empty = [np.empty(0, np.int64)]
    return Answers("", *(np.concatenate([getattr(part, name) for part in parts] or empty) for name in names))


def write(story: Story, directory: Path) -> Path:
    """Write the report; returns the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    result = msgspec.json.format(msgspec.json.encode(story.result), indent=2)
    write_atomic(directory / "result.json", result + b"\n")
    page = directory / "index.html"
    write_atomic(page, render(story).encode())
    return page


def pictures(story: Story) -> dict[str, Figure]:
    """Every figure of the page by name."""
    bad_times = {device: when for device, (_, when) in story.bad.items()}
    moments = figures.marks(story.steps, story.record, bad_times, story.start)
    alarms = {device: [h.time for h in story.record.alarms(device)] for device in data.DEVICES}
    return {
        "accuracy": figures.accuracy_over_time(story.answers, moments, story.start),
        "evidence": figures.evidence_over_time(story.record.points, alarms, moments, story.start),
        "rollout": figures.gantt(story.record, story.steps, moments, story.start, story.end),
        "samples": figures.sample_pictures(story.result.seed),
        "confusion": figures.confusions(story.drifted(), unfinished(story.result.devices)),
    }


def unfinished(devices: Sequence[DeviceResult]) -> tuple[str, ...]:
    """The phases that some bad camera's device did not go through."""
    return tuple(name for name in PHASES if not all(d.whole(name) for d in devices if d.bad))


def render(story: Story) -> str:
    """The page as HTML."""
    result, drawn = story.result, {name: figures.svg(figure) for name, figure in pictures(story).items()}
    verdict = "the loop closed" if result.closed else "the loop did not close"
    body = [
        f'<span class="verdict {"closed" if result.closed else "open"}">{verdict}</span>',
        "<h1>From drifting cameras to a better model on every device</h1>",
        _cause(result),
        f"<p>{escape(_introduction(result))}</p>",
        _failures(result),
        _key_figures(result),
        _section("Accuracy", "Share of right answers among each device's last 150.", _key() + drawn["accuracy"]),
        _section(
            "Evidence of drift",
            "What each device concluded on its own from its pictures and its model's answers, no labels needed; "
            "▼ is its alarm. It starts anew when the device gets a new release.",
            _key() + drawn["evidence"],
        ),
        _section(
            "From release 1 to release 2",
            "One device tries the new release before the others get it.",
            drawn["rollout"],
        ),
        _section("What the cameras see", "The same digits through the good and the bad camera.", drawn["samples"]),
        _section("Devices", DEVICES_TEXT, device_table(result.devices)),
        _section("Confusion of the drifted devices", "Truth against answer, per cent of each row.", drawn["confusion"]),
        *(_section(f"Why {d} runs what it runs", BENCH_TEXT, _selection(story.record, d)) for d in data.DEVICES[:1]),
        _section("What the controller did", "", _steps(story)),
    ]
    css = files("cloud_trainer.demo").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Sanderling demo: {verdict}</title><style>{css}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _key() -> str:
    return (
        f'<div class="key">{"".join(f"<span>{_dot(device)}{escape(device)}</span>" for device in data.DEVICES)}</div>'
    )


def _dot(device: str) -> str:
    return f'<span class="dot" style="background:{figures.COLOURS[device]}"></span>'


def _introduction(result: Result) -> str:
    return (
        "Three agents read handwritten digits, one picture at a time. Two of their cameras went bad. Everything here "
        f"was measured in one run of {result.seconds:.0f} seconds, seed {result.seed}, with real processes and a real "
        "broker."
    )


def _section(title: str, text: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{f'<p>{escape(text)}</p>' if text else ''}{content}</section>"


def _cause(result: Result) -> str:
    return f'<p class="cause">{escape(result.cause)}</p>' if result.cause else ""


def _failures(result: Result) -> str:
    lines = [*result.failures, *result.notes]
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _key_figures(result: Result) -> str:
    drifted = [device for device in result.devices if device.bad]
    cards = []
    for name in PHASES:
        right = sum(d.phases[name].accuracy * d.phases[name].samples for d in drifted if d.phases[name].samples)
        count = sum(d.phases[name].samples for d in drifted)
        whole = name not in unfinished(drifted)
        text = f"right {name}, drifted devices" if whole else f"right {name}: this phase is unfinished"
        cards.append((percent(right / count) if whole else "–", text))
    legs = result.times
    cards += [
        (seconds(legs.drift_to_alarm), "from drift to alarm"),
        (seconds(legs.alarm_to_release), "from alarm to release 2"),
        (seconds(legs.release_to_fleet), "from release to the whole fleet"),
    ]
    inner = "".join(f"<div><b>{escape(value)}</b><span>{escape(text)}</span></div>" for value, text in cards)
    return f'<div class="figures">{inner}</div>'


def device_table(devices: Sequence[DeviceResult]) -> str:
    """One row a device."""
    rows = []
    for device in devices:
        camera = "camera went bad" if device.bad else "camera stayed good"
        cells = [
            f"{_dot(device.device)}{escape(device.device)}<br><small>{camera}</small>",
            *(_share(device, name) for name in PHASES),
            f"{device.release}",
            f"{escape(device.variant)}<br><small>{escape(device.why)}</small>",
            seconds(device.alarm_seconds) if device.alarms else "no alarm",
            f"{device.p50_us:.0f} µs",
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = ("device", *PHASES, "release", "variant", "alarm after", "p50")
    return _table(head, rows)


def _share(device: DeviceResult, name: str) -> str:
    found = device.phases[name]
    if device.whole(name):
        return f"{percent(found.accuracy)}<br><small>of {found.samples:,}</small>"
    return (
        f'<span class="unfinished">{percent(found.accuracy)}</span><br><small>of {found.samples:,}, unfinished</small>'
    )


def _selection(record: Record, device: str) -> str:
    change = record.variant(device)
    rows = [_selection_row(row) for row in (change.selection if change else [])]
    head = ("variant", "runtime", "quality", "p50", "p99", "size", "")
    return _table(head, rows) if rows else "<p>The device sent no table.</p>"


def _selection_row(row: SelectionRow) -> str:
    cells = [
        escape(row.variant),
        escape(row.runtime),
        percent(row.quality) if row.quality is not None else "–",
        f"{row.p50_us:.1f} µs" if row.p50_us is not None else "–",
        f"{row.p99_us:.1f} µs" if row.p99_us is not None else "–",
        f"{row.bytes / 1024:.0f} KiB",
        escape(row.why),
    ]
    mark = ' class="chosen"' if row.chosen else ""
    return f"<tr{mark}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _steps(story: Story) -> str:
    rows = [
        f'<tr><td class="fit number">{step.time - story.start:.1f} s</td>'
        f'<td class="fit">{escape(step.what)} {escape(step.subject)}</td>'
        f'<td class="fit">{escape(step.words)}</td><td>{escape(step.text)}</td></tr>'
        for step in story.steps
        if step.what in {"incident", "rollout", "alarm"}
    ]
    return _table(("time", "what", "state", ""), rows)


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def percent(share: float) -> str:
    """``97.3 %``, or a dash for no data.

    >>> percent(0.9731)
    '97.3 %'
    """
    return f"{100 * share:.1f} %" if not math.isnan(share) else "–"


def seconds(value: float | None) -> str:
    """``4.2 s``, or a dash for what did not happen."""
    return "–" if value is None else f"{value:.1f} s"
