"""Findings in plain words: the headline, the promise, the table of columns."""

from __future__ import annotations

import math

from cloud_trainer.drift.findings import Findings, Found, Moved, Place, Promise
from cloud_trainer.drift.history import belongs
from shared.cli import table
from shared.drift.bins import CATEGORY
from shared.drift.profile import MISSING_SUFFIX
from shared.drift.status import RATIO_MAX

MOST_NAMED = 3
MOST_ROWS = 20
CAPPED = 0.99 * RATIO_MAX


def times(evidence: float) -> str:
    """How many times the alarm threshold, for people.

    >>> times(3412.0), times(0.126), times(1e12), times(1.26)
    ('3,400 times', '13 % of', 'more than 10¹² times', '1.3 times')
    """
    if evidence >= CAPPED:
        return "more than 10¹² times"
    if evidence >= 1e6:
        exponent = f"{evidence:.0e}".split("e")
        return f"{exponent[0]}·10{_superscript(int(exponent[1]))} times"
    return f"{_two_digits(evidence)} times" if evidence >= 1 else f"{percent(evidence)} of"


def evidence_cell(evidence: float) -> str:
    """Evidence over the threshold in a table.

    >>> evidence_cell(3412.0), evidence_cell(0.0004), evidence_cell(2e12), evidence_cell(4e7)
    ('3,400', '< 0.001', '> 10¹²', '4·10⁷')
    """
    if evidence >= CAPPED:
        return "> 10¹²"
    if evidence < 1:
        return "< 0.001" if evidence < 1e-3 else f"{evidence:.2g}"
    return times(evidence).removesuffix(" times")


def place(where: Place, *, about: bool = False) -> str:
    """A place, for people.

    >>> place(Place(12_316, "2011-06-14 03:00"), about=True), place(Place(7))
    ('row 12,300 (2011-06-14)', 'row 7')
    """
    row, time = where.row, where.time
    if about and row >= 1000:
        row = round(row, 2 - len(str(row)) + 1)
    if about and time and len(time) > 10 and time[4:5] == "-" and time[10] == " ":
        time = time[:10]
    return f"row {row:,}" + (f" ({time})" if time else "")


def size(one: Moved) -> str:
    """How much one scalar moved, in the words that fit it best."""
    missing = one.missing_after - one.missing_before
    if one.kind == CATEGORY:
        shape = f"{100 * one.w1:.0f} % of values moved"
    elif abs(one.mean_shift) >= 0.5 * one.w1:
        shape = f"{sign(one.mean_shift)} σ"
    else:
        shape = f"shape moved by {one.w1:.2f} σ"
    if abs(missing) >= 0.01 and abs(missing) > 0.3 * min(one.w1, 1.0):
        return f"missing {100 * one.missing_before:.0f} % → {100 * one.missing_after:.0f} %"
    return shape


def sign(value: float, digits: int = 2) -> str:
    """A number with its sign.

    >>> sign(1.3), sign(-0.604), sign(0.0)
    ('+1.30', '−0.60', '0.00')
    """
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "−") + text


def leading(found: Found) -> list[Moved]:
    """The scalars with most evidence of their own; where the evidence of none is enough alone, those that spoke loudest
    when the alarm rose."""
    alone = [one for one in found.columns if one.alone]
    named = [one for one in found.columns if any(belongs(track, one.name) for track in found.features)]
    return (alone or named)[:MOST_NAMED]


def headline(findings: Findings) -> str:
    """The result in a sentence or two."""
    if not findings.changes:
        return (
            f"No change was found: in {findings.rows:,} rows the evidence stayed below the alarm threshold "
            f"(at most {times(findings.evidence)} it, at {place(findings.highest)})."
        )
    first = findings.changes[0]
    most = ", ".join(f"{one.name} ({size(one)})" for one in leading(first))
    again = ""
    if len(findings.changes) > 1:
        again = f" This is the first of {len(findings.changes)} changes."
    reached = f"evidence reached {times(findings.evidence)} the alarm threshold"
    sure = f"probably changed ({reached}, but {findings.doubt})" if findings.doubt else f"changed: surely ({reached})"
    return f"The data {sure}, {begin(first)}. Most: {most}.{again}"


def begin(found: Found) -> str:
    """Where a change began."""
    if found.start.row == 0:
        return "from the first rows on"
    return f"from about {place(found.start, about=True)} on"


def promise(made: Promise, findings: Findings) -> list[str]:
    """What the alarm of this run is worth."""
    a = f"{made.false_alarm_every:,.0f}"
    asked = f" ({made.asked})" if made.asked else ""
    chance = (
        f"While rows come as the reference's did, an alarm rises in {a} rows{asked} at most once on average. The "
        f"chance of any alarm in these {findings.rows:,} rows is then at most {percent(made.chance)}."
    )
    found = [chance]
    out = sum(not one.promised for one in findings.columns)
    if out:
        found.append(
            f"For {out} of the {len(findings.columns)} scalars this is not promised: see below what the "
            "reference lacks."
        )
    found.append(
        f"Up to {percent(made.eta)} come to that for the part of the evidence that takes the reference as it is: it "
        "relies on a confidence bound of the reference's shares, which an unlucky reference misses."
    )
    if made.tolerance > 0:
        found.append(
            f"Every value may move by {made.tolerance:g} σ unreported; what stays in that band is silent by promise."
        )
    if made.replaced > 0:
        found.append(f"{percent(made.replaced)} of categories and missing values may be others unreported.")
    found.append(
        f"Evidence moves in windows of {made.window} rows." if made.window > 1 else "Evidence moves row by row."
    )
    return found


def percent(share: float) -> str:
    """A share for people.

    >>> percent(0.05), percent(0.0004), percent(1.0)
    ('5 %', '0.04 %', '100 %')
    """
    return f"{100 * share:.2g} %" if share < 0.995 else "100 %"


def pair(before: float | None, after: float | None) -> str:
    """Two numbers of the data's own unit, to three digits of the larger.

    >>> pair(12345.678, 7.0), pair(0.123456, -0.00002), pair(None, None)
    ('12,346 → 7', '0.123 → 0.000', '–')
    """
    if before is None or after is None:
        return "–"
    most = max(abs(before), abs(after), 1e-300)
    if not 1e-4 <= most < 1e7:
        return f"{before:.3g} → {after:.3g}"
    digits = max(2 - math.floor(math.log10(most)), 0)
    return " → ".join(
        f"{value:,.{digits}f}".replace("-0." + "0" * digits, "0." + "0" * digits).replace("-", "−")
        for value in (before, after)
    )


def columns_table(columns: tuple[Moved, ...]) -> str:
    """The columns for a terminal, the loudest first."""
    rows = [
        [
            one.name,
            evidence_cell(one.evidence),
            pair(one.before, one.after),
            sign(one.mean_shift) if one.kind != CATEGORY else "–",
            f"{one.w1:.2f}",
            f"{one.psi:.3f}",
            f"{one.js:.3f}",
            f"{one.missing_before:.1%} → {one.missing_after:.1%}" if one.missing_before or one.missing_after else "–",
        ]
        for one in columns[:MOST_ROWS]
    ]
    header = ["column", "evidence", "mean", "shift, σ", "W1, σ", "PSI", "JS", "missing"]
    more = f"\n... and {len(columns) - MOST_ROWS} quieter ones" if len(columns) > MOST_ROWS else ""
    return table(rows, header) + more


def track_name(track: str) -> str:
    """A track for people.

    >>> track_name("temp.missing")
    'temp missing'
    """
    return track.removesuffix(MISSING_SUFFIX) + (" missing" if track.endswith(MISSING_SUFFIX) else "")


def _two_digits(value: float) -> str:
    if value >= 100:
        return f"{round(value, 1 - len(str(int(value))) + 1):,.0f}"
    return f"{value:.2g}"


def _superscript(value: int) -> str:
    return str(value).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
