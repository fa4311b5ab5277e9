"""The words of ``cloud-trainer package`` that say what a file does not, as data."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

from edge_agent.bare import check_labels, read_labels
from edge_agent.tasks import Options
from shared.errors import UsageError


def labels_of(text: str) -> tuple[str, ...]:
    """``--labels``: names with commas, or a file of one a line.

    Raises:
        UsageError: fewer than two, or one twice.
    """
    if not text:
        return ()
    if Path(text).is_file():
        return read_labels(Path(text))
    labels = tuple(label.strip() for label in text.split(","))
    if len(labels) < 2 or len(set(labels)) < len(labels) or not all(labels):
        raise UsageError("--labels: expected at least two different names, e.g. --labels cat,dog, or a file of them")
    check_labels(labels, "--labels")
    return labels


def options_of(args: argparse.Namespace) -> Options:
    """What the arguments say about the model.

    Raises:
        UsageError: a number is none, or mean and std do not go together.
    """
    mean, std = (_numbers(getattr(args, name), f"--{name}") for name in ("mean", "std"))
    if bool(mean) != bool(std) or len(mean) != len(std):
        raise UsageError(f"--mean and --std go together: {len(mean)} means and {len(std)} standard deviations")
    if any(value <= 0 for value in std):
        raise UsageError(f"--std {args.std}: every one must be above 0")
    threshold = None if args.threshold is None else _number(args.threshold, "--threshold")
    return Options(
        factor=_number(args.input_scale, "--input-scale"),
        offset=_number(args.input_offset, "--input-offset"),
        mean=mean,
        std=std,
        threshold=threshold,
        layout=args.boxes,
        unit=args.unit,
    )


def limits_of(given: list[str] | None) -> tuple[float, float] | None:
    """``--input-range``.

    Raises:
        UsageError: no two numbers, the lower one first.
    """
    if given is None:
        return None
    low, high = (_number(text, "--input-range") for text in given)
    if not low < high:
        raise UsageError(f"--input-range {low:g} {high:g}: the first must be below the second")
    return low, high


def _numbers(text: str, option: str) -> tuple[float, ...]:
    return tuple(_number(part.strip(), option) for part in text.split(",")) if text else ()


def _number(text: str, option: str) -> float:
    try:
        value = float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(f"{option} {text}: expected a number or a fraction like 1/255") from None
    return value
