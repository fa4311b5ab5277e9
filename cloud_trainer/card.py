"""``card.md``: what a release is, for people, in the manner of model cards (Mitchell et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cloud_trainer.evaluation.comparison import Compared
from cloud_trainer.evaluation.figures import Judge
from cloud_trainer.report.parts import name_of, range_of, shown
from shared.manifest import Manifest, SampleSpec, Variant

LABELS = 30
"""Named one by one; of more, so many are."""


def card(
    manifest: Manifest,
    variants: Sequence[Variant],
    *,
    data: Mapping[str, int],
    values: tuple[float, float] | None,
    left_out: Mapping[str, str],
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    watched: bool = True,
    wrapped: bool = False,
    compared: Mapping[str, Compared] | None = None,
) -> str:
    """Markdown. ``data``: samples by part; ``values``: the smallest and largest in a sample, where known;
    ``left_out``: variant -> reason; ``notes``: sentences; ``warnings``: what a person should know before it is used;
    ``watched``: the release brings a reference for drift; ``wrapped``: the model was made elsewhere;
    ``compared``: intervals by variant (:func:`cloud_trainer.evaluation.comparison.compare`)."""
    lineage, measures = manifest.lineage, _measures(variants)
    compared = compared or {}
    made = f"{manifest.created} by sanderling {lineage.code_version}, seed {lineage.seed}"
    trained = f"trained on from release {lineage.parent}" if lineage.parent else "trained from scratch"
    if wrapped:
        trained = "trained elsewhere"
    lines = [
        f"# {manifest.name}, release {manifest.version}",
        "",
        _does(manifest),
        f"Takes {_takes(manifest, values)}. Made {made}.",
        "",
        *(f"**Warning:** {warning}.\n" for warning in warnings),
        *(f"{note}\n" for note in notes),
        "## Variants",
        "",
        f"| variant | student | bytes | MACs |{''.join(f' {name_of(name)} |' for name in measures)} meant for |",
        f"|---|---|---:|---:|{'---:|' * len(measures)}---|",
        *(_row(variant, measures, compared.get(variant.id)) for variant in variants),
        "",
        _measured(variants, compared),
        *(f"\n{name} was left out: {reason}." for name, reason in left_out.items()),
        "",
        "## Data",
        "",
        *(f"- {name}: {count:,} samples" for name, count in data.items()),
        "",
        f"Data digest `{lineage.data_sha256[:16]}`, configuration digest `{lineage.config_sha256[:16]}`, {trained}.",
        "",
        "## Limits",
        "",
        _limits(manifest, watched=watched),
        "",
    ]
    return "\n".join(lines)


def _measured(variants: Sequence[Variant], compared: Mapping[str, Compared]) -> str:
    if not any(variant.quality for variant in variants):
        return "Nobody has measured its quality: there were no samples with their truth."
    samples = next((v.quality["samples"] for v in variants if "samples" in v.quality), None)
    on = f"on {samples:,.0f} samples" if samples else "on samples"
    said = f"Quality is measured through the engine that devices run, {on} that nothing was fitted on."
    return said + (" In brackets: 95 % bootstrap intervals." if compared else "")


def _does(manifest: Manifest) -> str:
    count = len(manifest.labels)
    some = ", ".join(manifest.labels[:LABELS]) + (f" and {count - LABELS} more" if count > LABELS else "")
    task = manifest.task.capitalize()
    if manifest.task.endswith("classification"):
        return f"{task} into {count} classes: {some}."
    if manifest.task == "ranking":
        return f"{task} of {count} items: {some}."
    return f"{task}{f' of {count} kinds: {some}' if some else ''}."


def _takes(manifest: Manifest, values: tuple[float, float] | None) -> str:
    parts = [
        f"{'one ' if i == 0 else ''}{spec.kind if i == 0 else spec.name} of shape {shape_of(spec)}, {spec.dtype}"
        for i, spec in enumerate(manifest.signature)
    ]
    if values is not None:
        parts[0] += f", values from {values[0]:g} to {values[1]:g}"
    carried = ", ".join(f"{pair.output} to {pair.input}" for pair in manifest.state)
    return "; ".join(parts) + (f"; carries {carried} from call to call" if carried else "")


def shape_of(spec: SampleSpec) -> str:
    """A sample's shape for people.

    >>> shape_of(SampleSpec("float32", (3, -1))), shape_of(SampleSpec("int64", ()))
    ('3×any', 'one number')
    """
    return "×".join("any" if size == -1 else str(size) for size in spec.shape) or "one number"


def _limits(manifest: Manifest, *, watched: bool) -> str:
    often = f"at most one false alarm in {manifest.drift.false_alarm_every:,} samples"
    known = f"{_KNOWN.get(_family(manifest), 'It knows only inputs')} like the ones that it was trained on."
    if watched:
        return f"{known} Devices watch for others: on a stream like the reference {often}."
    return (
        f"{known} It brings no reference: each device learns its baseline from its own first answers, and watches for "
        f"change from there, with {often}."
    )


_KNOWN = {
    "classes": "It knows only these classes, and inputs",
    "anomaly": "It calls strange what differs from what was normal in training; it knows only inputs",
    "forecast": "It foretells the future from the past alone, and knows only series",
    "ranking": "It ranks only these items, none that came later, and knows only users",
}


def _family(manifest: Manifest) -> str:
    return "forecast" if manifest.task == "forecast" else Judge(manifest.task).family


def _measures(variants: Sequence[Variant]) -> tuple[str, ...]:
    """Which figures are columns: the score, and what stands beside it."""
    names = {name for variant in variants for name in variant.quality}
    first = next((name for variant in variants for name in variant.quality), "")
    return tuple(name for name in (first, *_BESIDE.get(first, ())) if name in names)


_BESIDE = {
    "accuracy": ("macro_f1", "ece"),
    "r2": ("mae", "rmse", "mase", "coverage"),
    "auc": ("average_precision", "f1"),
    "ndcg": ("hit_rate", "mrr"),
}


def _row(variant: Variant, measures: Sequence[str], compared: Compared | None) -> str:
    cells = []
    for name in measures:
        found = compared.figures.get(name) if compared else None
        sure = f" ({range_of(name, found)})" if found else ""
        cells.append(f"{shown(name, variant.quality.get(name))}{sure}")
    figures = "".join(f" {cell} |" for cell in cells)
    return (
        f"| {variant.id} | {variant.student or '–'} | {variant.file.bytes:,} | {variant.macs or '–'} |{figures} "
        f"{', '.join(variant.meant_for) or 'any'} |"
    )
