"""One frame of ``edge-agent top``: a status and a size give lines of text. Pure.

Evidence is drawn on a scale of its logarithm: an empty bar is a millionth or less, a full one is 1, the alarm; each
tenfold of evidence is a sixth of the bar.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from edge_agent.state import AgentStatus, RecentAnswer, Watched

DECADES = 6
"""Powers of ten below the alarm that a bar shows."""
BLOCKS = " ▏▎▍▌▋▊▉█"
LEAST_WIDTH = 40
STALE_SECONDS = 15.0
RED, YELLOW, GREEN, DIM, BOLD, PLAIN = "\x1b[1;31m", "\x1b[33m", "\x1b[32m", "\x1b[2m", "\x1b[1m", "\x1b[0m"
NEAR = 0.01
"""Evidence from which a bar turns yellow: a hundredth of the alarm."""


def render(
    status: AgentStatus | None, width: int, height: int, *, now: float, running: bool, colour: bool = True
) -> list[str]:
    """Exactly ``height`` lines of at most ``width`` columns for ``status`` (``None``: there is none yet), the time
    ``now`` (seconds since 1970). Escape codes only if ``colour``.

    What there is no room for is left out from the bottom of each list, scalars and answers alike.
    """
    width, height = max(width, LEAST_WIDTH), max(height, 1)
    if status is None:
        text = "waiting for the agent's first status" if running else "no agent has run here yet"
        return _fit([[(text, DIM)]], width, height, colour=colour)
    head = [*_head(status, now, width, running=running), []]
    watched = _drift(status, width)
    answers = _answers(status.answers, width)
    room = max(height - len(head), 0)
    if len(watched) + len(answers) + 1 > room:
        # scalars have two thirds, unless the answers need less than their third
        for_answers = min(len(answers), max(room // 3, room - 1 - len(watched)))
        watched = _cut(watched, room - for_answers - 1, "scalars")
        answers = answers[:for_answers] if for_answers > 1 else []
    return _fit([*head, *watched, [], *answers], width, height, colour=colour)


Line = list[tuple[str, str]]
"""Pieces of text, each with its colour ("" for none)."""


def _head(status: AgentStatus, now: float, width: int, *, running: bool) -> list[Line]:
    title = f"{status.model}/{status.release}"
    if status.variant:
        title += f"  {status.variant}" + (f" (stepped down {status.steps_down})" if status.steps_down > 0 else "")
    where = f"{status.site}/{status.device}" if status.device else ""
    age = now - status.time
    if not running:
        state = (f"not running, as of {duration(age)} ago", RED)
    elif status.paused:
        state = ("paused", YELLOW)
    elif age > STALE_SECONDS:
        state = (f"silent for {duration(age)}", YELLOW)
    else:
        state = (f"up {duration(now - status.started)}", GREEN)
    gap = width - len(title) - len(where) - len(state[0]) - 2
    lines: list[Line] = [[(title, BOLD), (" " * max(gap, 2), ""), (where + "  " if where else "  ", DIM), state]]
    lines.append(
        [
            (f"{rate(status.rate_hz)}/s", BOLD),
            (f"   p50 {latency(status.p50_us)}   p99 {latency(status.p99_us)}   {status.samples:,} answers", ""),
            (f"   {status.errors:,} errors", RED if status.errors else ""),
            (f"   {status.queue} waiting" if status.queue else "", YELLOW),
        ]
    )
    trouble = [status.source_error] if status.source_error else []
    lines.append([("source  ", DIM), (status.source or "none", ""), (f"  {trouble[0]}" if trouble else "", RED)])
    sinks = "; ".join(status.sink_errors) or (f"{status.lost:,} answers lost" if status.lost else "ok")
    lines.append([("sinks   ", DIM), (sinks, RED if status.sink_errors or status.lost else "")])
    if status.http:
        lines.append([("http    ", DIM), (status.http, "")])
    if not status.local:
        link = "connected" if status.connected else f"not connected {status.connection}".rstrip()
        waiting = f", {status.outbox_rows:,} messages wait" if status.outbox_rows else ""
        lines.append([("broker  ", DIM), (link, "" if status.connected else YELLOW), (waiting, "")])
    if status.update:
        lines.append([("update  ", DIM), (status.update, "")])
    return lines


def _drift(status: AgentStatus, width: int) -> list[Line]:
    if status.learning and status.learned < status.learning:
        label = "learning the baseline  "
        counts = f"  {status.learned:,} of {status.learning:,}"
        filled = bar(status.learned / status.learning, width - len(label) - len(counts))
        return [[(label, BOLD), (filled, GREEN), (counts, "")]]
    colour = _level(status.drift_evidence, alarm=status.drift_alarm)
    name_width = min(max((len(one.name) for one in status.watched), default=5), width // 3)
    lines = [_row("drift", status.drift_evidence, "ALARM" if status.drift_alarm else "", name_width, width, colour)]
    lines[0][0] = (lines[0][0][0], colour or BOLD)
    if status.performance:
        colour = _level(status.truth_evidence, alarm=False)
        lines.append([(_short(f"accuracy  {status.performance}", width), colour)])
    lines.extend(
        _row(
            one.name,
            one.evidence,
            f"{one.effect:+.2f} σ",
            name_width,
            width,
            _level(one.evidence or 0.0, alarm=False),
        )
        for one in by_evidence(status.watched)
    )
    return lines


def by_evidence(watched: Sequence[Watched]) -> list[Watched]:
    """The most suspicious first: by evidence, then by the size of the effect; equals as they came."""
    return sorted(watched, key=lambda one: (-(one.evidence or 0.0), -abs(one.effect)))


def _row(name: str, evidence: float | None, note: str, name_width: int, width: int, colour: str) -> Line:
    figure = "" if evidence is None else number(evidence)
    tail = f"  {figure:>8}  {note:>9}"
    room = max(width - name_width - 2 - len(tail), 4)
    filled = " " * room if evidence is None else bar(position(evidence), room)
    return [(f"{_short(name, name_width):<{name_width}}  ", ""), (filled, colour or GREEN), (tail, colour)]


def _answers(answers: Sequence[RecentAnswer], width: int) -> list[Line]:
    if not answers:
        return [[("no answers yet", DIM)]]
    lines: list[Line] = [[("last answers", BOLD)]]
    latest = sorted(answers, key=lambda answer: -answer.time)
    scored = any(_score(answer) for answer in latest)
    id_width = min(max(len(answer.id) for answer in latest), width // 3)  # whole: feedback asks for it
    others = 10 + (8 if scored else 0) + 2 + id_width
    label_width = min(max(len(said(answer)) for answer in latest), max(width - others, 8))
    for answer in latest:
        clock = time.strftime("%H:%M:%S", time.localtime(answer.time))
        text = f"{_short(said(answer), label_width):<{label_width}}"
        score = f"  {_score(answer):>6}" if scored else ""
        lines.append([(clock + "  ", DIM), (text, ""), (score, ""), (f"  {_short(answer.id, id_width)}", DIM)])
    return lines


def _score(answer: RecentAnswer) -> str:
    return "" if answer.score is None or math.isnan(answer.score) else f"{answer.score:.3f}"


def said(answer: RecentAnswer) -> str:
    """What an answer says, in short."""
    if answer.label:
        return answer.label
    if answer.value is None:
        return "–"
    return f"{answer.value:.6g}" if isinstance(answer.value, float | int) else answer.value


def _cut(lines: list[Line], room: int, what: str) -> list[Line]:
    if len(lines) <= room or room < 2:
        return lines[: max(room, 1)]
    return [*lines[: room - 1], [(f"… {len(lines) - room + 1} more {what}", DIM)]]


def _level(evidence: float, *, alarm: bool) -> str:
    if alarm or evidence >= 1:
        return RED
    return YELLOW if evidence >= NEAR else ""


def position(evidence: float) -> float:
    """Where on the bar evidence stands, 0 to 1.

    >>> position(1.0), position(1e-3), position(0.0)
    (1.0, 0.5, 0.0)
    """
    if not evidence > 0:
        return 0.0
    return min(max(1 + math.log10(evidence) / DECADES, 0.0), 1.0)


def bar(share: float, width: int) -> str:
    """``share`` (0 to 1) of ``width`` columns filled, in eighths; full only at 1.

    >>> bar(0.5, 5), bar(1.0, 3), bar(0.999, 3)
    ('██▌··', '███', '██▉')
    """
    width = max(width, 1)
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if share < 1:
        eighths = min(eighths, width * 8 - 1)
    whole, part = divmod(eighths, 8)
    filled = "█" * whole + (BLOCKS[part] if part else "")
    return filled + "·" * (width - len(filled))


def number(value: float) -> str:
    """Evidence for people: small ones as powers of ten.

    >>> number(0.25), number(0.0), number(3e-7), number(12345.0)
    ('0.25', '0', '3e-07', '1.2e+04')
    """
    if value == 0:
        return "0"
    return f"{value:.2g}" if value < 1000 else f"{value:.1e}"


def rate(per_second: float) -> str:
    """Answers a second.

    >>> rate(0.2), rate(12.34), rate(12345.0)
    ('0.20', '12.3', '12,345')
    """
    if per_second < 10:
        return f"{per_second:.2f}"
    return f"{per_second:.1f}" if per_second < 1000 else f"{per_second:,.0f}"


def latency(microseconds: float) -> str:
    """A duration for people.

    >>> latency(61.4), latency(1534.0), latency(2.5e6)
    ('61 µs', '1.53 ms', '2.50 s')
    """
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / 1e3:.2f} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.2f} s"


def duration(seconds: float) -> str:
    """A duration for people.

    >>> duration(5), duration(125), duration(7300), duration(200000)
    ('5 s', '2 min', '2.0 h', '2.3 d')
    """
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 86_400 else f"{seconds / 86_400:.1f} d"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def _fit(lines: Sequence[Line], width: int, height: int, *, colour: bool) -> list[str]:
    """Cut to size; control characters, which a name or a label may hold, become blanks."""
    fitted = []
    for line in lines[:height]:
        left, pieces = width, []
        for raw, code in line:
            text = "".join(c if c.isprintable() else " " for c in raw)[:left]
            left -= len(text)
            pieces.append(f"{code}{text}{PLAIN}" if colour and code and text else text)
        fitted.append("".join(pieces).rstrip(" "))
    return fitted + [""] * (height - len(fitted))
