"""Variants beside each other: how sure each score is, and how sure its distance to the fp32 student. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.evaluation import bootstrap
from cloud_trainer.evaluation.bootstrap import Interval, Statistic
from cloud_trainer.evaluation.figures import SHARES, Judge, answer_of, sampled
from shared.manifest import Variant


class Compared(Struct, frozen=True):
    """Intervals of one variant's main figures by name, and of its score less that of fp32 on the same runtime (``None``
    for fp32 itself, and where there is none)."""

    figures: dict[str, Interval]
    to_fp32: Interval | None = None


def compare(
    judge: Judge,
    variants: Sequence[tuple[Variant, Mapping[str, NDArray[Any]]]],
    truth: NDArray[Any],
    groups: NDArray[Any] | None = None,
    *,
    seed: int = 0,
    every: bool = False,
) -> dict[str, Compared]:
    """By variant id; ``variants`` with the fields that each gave for the same samples. All see the same resamples.
    ``every``: all main figures of all variants have an interval, not only the score (some seconds a variant)."""
    drawn = {}
    for variant, fields in variants:
        answer = answer_of(judge.task, fields)
        if answer is not None and judge.family:
            drawn[variant.id] = sampled(judge, answer, truth, groups)
    fp32 = {v.runtime: v.id for v, _ in variants if v.precision == "fp32" and v.id in drawn}
    statistics: dict[str, Statistic] = {}
    for variant, _ in variants:
        if variant.id not in drawn:
            continue
        own = drawn[variant.id].statistics
        statistics |= {f"{variant.id}/{name}": one for name, one in own.items() if every or name == judge.score}
        base = fp32.get(variant.runtime)
        if base is not None and base != variant.id:
            statistics[f"{variant.id}/to fp32"] = bootstrap.difference(
                own[judge.score], drawn[base].statistics[judge.score]
            )
    if not statistics:
        return {}
    one = next(iter(drawn.values()))
    found = bootstrap.intervals(statistics, one.units, groups=one.groups, seed=seed)
    result = {}
    for id_, own_drawn in drawn.items():
        figures = {name: found[f"{id_}/{name}"] for name in own_drawn.statistics if f"{id_}/{name}" in found}
        figures = {n: bootstrap.share_interval(i) if n in SHARES else i for n, i in figures.items()}
        result[id_] = Compared(figures, found.get(f"{id_}/to fp32"))
    return result
