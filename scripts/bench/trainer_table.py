"""A line for each data set of ``scripts/bench/trainer``: figures beside the targets; the page that records them."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from msgspec import Struct
from trainer_speed import gain

from shared.files import write_atomic

POINT = 0.01
BEGIN, END = "<!-- made by scripts/bench/trainer -->", "<!-- end -->"
HEAD = """# The trainer beside scikit-learn

Made by `scripts/bench/trainer`. Each data set is split once (by a fixed seed; by people for sensors and generated
words, by time for forecasts and purchases). The baseline is the best of several scikit-learn models, each tuned by
cross-validation on the train and validation parts (for anomalies, where nothing labelled may be used to tune, the best
of twelve *on the test part*, which favours the baseline). Scores are those of the test part, times 100: accuracy, R²,
AUC, NDCG@10; one point is one hundredth. Teacher and student are scored before export, variants through `Engine`.
The seconds are those of the whole command, the comparison with a student without teacher among them. Targets: teacher
and fp32 student at or above the baseline; student within 1 point of the teacher at a tenth of its MACs and better than
the same student without teacher; int8 within 1 point of the student.
"""
VERSIONS = ("numpy", "scikit-learn", "torch", "onnxruntime", "ai-edge-litert")


class Limits(Struct, frozen=True):
    """Targets of one data set beyond those of all: of an int8 variant of it."""

    score: float
    macs: int
    bytes: int
    seconds: float


class Row(Struct, frozen=True):
    """``scores`` of ``teacher``, ``student`` and ``student without teacher`` on the test part; ``variants``: id ->
    (score through ``Engine``, KiB); ``left_out``: id -> reason; ``failure``: why there is no training."""

    name: str
    kind: str
    metric: str
    tested: int
    baseline: float
    baseline_model: str
    baseline_seconds: float
    scores: dict[str, float] = {}
    macs: dict[str, int] = {}
    variants: dict[str, tuple[float, float]] = {}
    left_out: dict[str, str] = {}
    seconds: float = 0.0
    comparison: float = 0.0  # of these, for the student without its teacher, which no release needs
    failure: str = ""
    times: dict[str, float] = {}  # microseconds of one answer of the bare runtime, one thread
    seed: int = 0  # of split and training


class Check(Struct, frozen=True):
    """One target: ``met`` or not, and the figures that say so."""

    name: str
    met: bool
    text: str


def checks(row: Row, limits: Limits | None = None) -> list[Check]:
    """Every target that this row can tell.

    >>> scores, macs = {"teacher": 0.95, "student": 0.93}, {"teacher": 10, "student": 2}
    >>> row = Row("a", "k", "accuracy", 100, 0.9, "", 1.0, scores, macs)
    >>> [(one.name, one.met) for one in checks(row)]
    [('teacher over baseline', True), ('student near teacher', False), ('student over baseline', True)]
    """
    if row.failure:
        return [Check("training", met=False, text=row.failure)]
    teacher, student = row.scores["teacher"], row.scores["student"]
    share = row.macs["student"] / max(1, row.macs["teacher"])
    found = [
        Check("teacher over baseline", teacher >= row.baseline, f"{points(teacher - row.baseline)} points"),
        Check(
            "student near teacher",
            student >= teacher - POINT and share <= 0.1,
            f"{points(student - teacher)} points at {share:.1%} of its MACs",
        ),
        Check("student over baseline", student >= row.baseline, f"{points(student - row.baseline)} points"),
    ]
    alone = row.scores.get("student without teacher")
    if alone is not None:
        found.insert(2, Check("student better taught", student > alone, f"{points(student - alone)} points"))
    small = int8_of(row)
    if small:
        worst = min(small, key=lambda name: small[name][0])
        loss = small[worst][0] - student
        found.append(Check("int8 near fp32", loss >= -POINT and not row.left_out, f"{points(loss)} points ({worst})"))
    elif row.left_out:
        found.append(Check("int8 near fp32", met=False, text="no int8 variant was kept"))
    if limits is not None:
        found.append(_within(row, limits))
    for runtime, name, goal in (("onnx", "ONNX Runtime", 1.4), ("litert", "LiteRT", 2.0)):
        if row.times:
            times = gain(row.times, runtime)
            found.append(Check(f"int8 speed, {name}", times >= goal, f"{times:.2f} times fp32's, wanted {goal:g}"))
    return found


DIFFERENCES = {
    "teacher - baseline": lambda row: row.scores["teacher"] - row.baseline,
    "student - baseline": lambda row: row.scores["student"] - row.baseline,
    "student - teacher": lambda row: row.scores["student"] - row.scores["teacher"],
    "student - the same without teacher": lambda row: row.scores["student"] - row.scores["student without teacher"],
    "int8 - student": lambda row: min(score for score, _ in int8_of(row).values()) - row.scores["student"],
}


def repeated(rows: Sequence[Row]) -> str:
    """Markdown: of data that were split and trained with several seeds, the mean of each difference in points, and its
    standard error."""
    names = [name for name in dict.fromkeys(row.name for row in rows) if sum(row.name == name for row in rows) > 1]
    head = " | ".join(DIFFERENCES)
    lines = [f"| data | seeds | baseline | {head} |", "|---|---|---|" + "---|" * len(DIFFERENCES)]
    for name in names:
        some = [row for row in rows if row.name == name and not row.failure]
        cells = [_mean([float(of(row)) for row in some]) for of in DIFFERENCES.values()]
        baseline = sum(row.baseline for row in some) / len(some)
        lines.append(f"| {name} | {len(some)} | {100 * baseline:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines) if names else ""


def _mean(values: Sequence[float]) -> str:
    """In points, with its standard error.

    >>> _mean([0.01, 0.02, 0.03])
    '+2.00 ± 0.58'
    """
    if len(values) < 2:
        return "–"
    middle = sum(values) / len(values)
    error = (sum((value - middle) ** 2 for value in values) / (len(values) - 1) / len(values)) ** 0.5
    return f"{points(middle)} ± {100 * error:.2f}"


def int8_of(row: Row) -> dict[str, tuple[float, float]]:
    """The int8 variants."""
    return {name: found for name, found in row.variants.items() if name.startswith("int8")}


def _within(row: Row, limits: Limits) -> Check:
    best, seconds = max(int8_of(row).values(), default=(0.0, 0.0)), row.seconds - row.comparison
    met = (
        best[0] >= limits.score
        and row.macs["student"] <= limits.macs
        and best[1] * 1024 <= limits.bytes
        and seconds <= limits.seconds
    )
    size = f"{row.macs['student']:,} MACs, {best[1]:.1f} KiB"
    text = f"{100 * best[0]:.2f} %, {size}, {seconds / 60:.1f} min (the comparison not counted)"
    goal = f"{100 * limits.score:g} %, {limits.macs:,}, {limits.bytes / 1024:.1f}, {limits.seconds / 60:g}"
    return Check("int8 within the limits", met, f"{text}; wanted {goal}")


def points(difference: float) -> str:
    """Hundredths of a score.

    >>> points(0.0123), points(-0.004)
    ('+1.23', '-0.40')
    """
    return f"{100 * difference:+.2f}"


HEADER = (
    "| data | score | tested | baseline | teacher | student | without teacher | fp32 | int8 | MACs, teacher | student |"
    " KiB, fp32 | int8 | s | targets |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def table(rows: Sequence[Row], limits: dict[str, Limits]) -> str:
    """Markdown: the figures, then every target that was missed, with its figures, then the baselines."""
    lines = [HEADER, *(_line(row, checks(row, limits.get(row.name))) for row in rows)]
    missed = [
        f"- **{row.name}**, {check.name}: {check.text}"
        for row in rows
        for check in checks(row, limits.get(row.name))
        if not check.met
    ]
    left = [f"- {row.name}, {name} left out: {reason}" for row in rows for name, reason in row.left_out.items()]
    lines += ["", "Missed:" if missed else "Nothing missed.", *([""] if missed else []), *missed]
    timed = [(row, name, time) for row in rows for name, time in row.times.items()]
    if timed:
        lines += ["", "Time of an answer, bare runtime, one thread:", ""]
        lines += [f"- {row.name}, {name}: {time:,.1f} µs" for row, name, time in timed]
    lines += (["", "Left out by the gate:", "", *left] if left else []) + ["", "Baselines:", ""]
    lines += [f"- {row.name}: {row.baseline_model}, {row.baseline_seconds:,.0f} s of CPU" for row in rows]
    return "\n".join(lines)


def _line(row: Row, found: Sequence[Check]) -> str:
    met = f"{sum(check.met for check in found)} of {len(found)}"
    head = f"| {row.name} | {row.metric} | {row.tested:,} | {100 * row.baseline:.2f} |"
    if row.failure:
        return f"{head} {'– | ' * 10}not trained |"
    floats = {name: pair for name, pair in row.variants.items() if name.startswith("fp32")}
    scores = [row.scores.get(name) for name in ("teacher", "student", "student without teacher")]
    cells = ["–" if score is None else f"{100 * score:.2f}" for score in scores]
    cells += [_span([pair[0] for pair in some.values()], 100, 2) for some in (floats, int8_of(row))]
    cells += [f"{row.macs[name]:,}" for name in ("teacher", "student")]
    cells += [_span([pair[1] for pair in some.values()], 1, 0) for some in (floats, int8_of(row))]
    return f"{head} {' | '.join(cells)} | {row.seconds:,.0f} | {met} |"


def _span(values: Sequence[float], factor: float, places: int) -> str:
    """The least and the largest."""
    if not values:
        return "–"
    low, high = (f"{factor * value:,.{places}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low}–{high}"


def machine() -> str:
    """Where, and with what."""
    found = [f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}"]
    for name in VERSIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def write_section(page: Path, text: str) -> None:
    """Put ``text`` between the marks of ``page``, which is made with a head where there is none."""
    old = page.read_text(encoding="utf-8") if page.is_file() else f"{HEAD}\n{BEGIN}\n{END}\n"
    if BEGIN not in old or END not in old:
        old = f"{old.rstrip()}\n\n{BEGIN}\n{END}\n"
    head, _, rest = old.partition(BEGIN)
    tail = rest.partition(END)[2]
    write_atomic(page, f"{head}{BEGIN}\n{text.strip()}\n{END}{tail}".encode())


def plain(row: Row, limits: Limits | None) -> dict[str, Any]:
    """For JSON."""
    import msgspec

    return {**msgspec.to_builtins(row), "checks": msgspec.to_builtins(checks(row, limits))}


def slug(name: str) -> str:
    """A name that a task may have.

    >>> slug("bike_forecast")
    'bike-forecast'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower())
