"""Numbers as people read them."""

from __future__ import annotations

import math

STEPS = ((1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def short(value: float) -> str:
    """Three digits that count, scientific notation only for what nobody reads.

    >>> short(0.01234), short(7.6543), short(123456.0), short(32.4999), short(0)
    ('0.0123', '7.65', '123,000', '32.5', '0')
    """
    if not value:
        return "0"
    if abs(value) < 1e-12 or abs(value) > 1e15:
        return f"{value:.3g}"
    places = 2 - math.floor(math.log10(abs(value)))
    text = f"{round(value, places):,.{max(0, places)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def scaled(value: float, unit: str) -> str:
    """With a prefix.

    >>> scaled(4.1e9, "MAC"), scaled(12, "MAC"), scaled(5.9e23, "MAC")
    ('4.1 GMAC', '12 MAC', '590 ZMAC')
    """
    size, prefix = next((step for step in STEPS if abs(value) >= step[0]), STEPS[-1])
    return f"{short(value / size)} {prefix}{unit}"


def in_time(seconds: float) -> str:
    """A duration.

    >>> in_time(0.0123), in_time(90), in_time(5400), in_time(3e6), in_time(1e9)
    ('12.3 ms', '1.5 min', '1.5 h', '34.7 days', '31.7 years')
    """
    for size, unit in ((365.25 * 86400, "years"), (86400, "days"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if seconds >= (2 * size if size == 86400 else size):
            return f"{short(seconds / size)} {unit}"
    return f"{short(seconds * 1e6)} µs"


def in_joules(joules: float) -> str:
    """An energy, from millijoules to kilowatt-hours.

    >>> in_joules(0.0005), in_joules(12), in_joules(7.2e6)
    ('0.5 mJ', '12 J', '2 kWh')
    """
    if joules >= 3.6e5:
        return f"{short(joules / 3.6e6)} kWh"
    return f"{short(joules)} J" if joules >= 1 else f"{short(joules * 1e3)} mJ"


def in_bytes(count: float) -> str:
    """A size, in powers of ten.

    >>> in_bytes(1500), in_bytes(1.4e11)
    ('1.5 kB', '140 GB')
    """
    return scaled(count, "B")


def in_dollars(amount: float) -> str:
    """A price.

    >>> in_dollars(0.00012), in_dollars(3.456), in_dollars(12345)
    ('0.00012 USD', '3.46 USD', '12,300 USD')
    """
    return f"{short(amount)} USD"


def of(count: int, word: str) -> str:
    """One or several.

    >>> of(1, "day"), of(3, "GPU")
    ('1 day', '3 GPUs')
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"
