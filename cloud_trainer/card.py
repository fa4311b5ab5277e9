"""``card.md``: what a release is, for people, in the manner of model cards (Mitchell et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.manifest import Manifest, SampleSpec, Variant


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
) -> str:
    """Markdown. ``data``: samples by part; ``values``: the smallest and largest in a sample, where known;
    ``left_out``: variant -> reason; ``notes``: sentences; ``warnings``: what a person should know before it is used;
    ``watched``: the release brings a reference for drift; ``wrapped``: the model was made elsewhere."""
    lineage = manifest.lineage
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
        f"| variant | student | bytes | MACs | {_measures(manifest)[0]} | {_measures(manifest)[1]} | meant for |",
        "|---|---|---:|---:|---:|---:|---|",
        *(_row(variant, manifest) for variant in variants),
        "",
        (
            "Quality is measured through the engine that devices run, on samples that nothing was fitted on."
            if any(variant.quality for variant in variants)
            else "Nobody has measured its quality: there were no samples with their truth."
        ),
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


def _does(manifest: Manifest) -> str:
    labels = ", ".join(manifest.labels)
    if manifest.task.endswith("classification"):
        return f"{manifest.task.capitalize()} into {len(manifest.labels)} classes: {labels}."
    return f"{manifest.task.capitalize()}{f' of {len(manifest.labels)} kinds: {labels}' if labels else ''}."


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
    known = "these classes, and inputs" if manifest.task.endswith("classification") else "inputs"
    often = f"at most one false alarm in {manifest.drift.false_alarm_every:,} samples"
    if watched:
        return (
            f"It knows only {known} like the ones that it was trained on. Devices watch for others: on a stream like "
            f"the reference {often}."
        )
    return (
        f"It knows only {known} like the ones that it was trained on. It brings no reference: each device learns its "
        f"baseline from its own first answers, and watches for change from there, with {often}."
    )


def _measures(manifest: Manifest) -> tuple[str, str]:
    """What the two columns of quality are called."""
    return (
        ("accuracy", "calibration error") if manifest.task.endswith("classification") else ("mean error", "measured on")
    )


def _row(variant: Variant, manifest: Manifest) -> str:
    quality = variant.quality
    if manifest.task.endswith("classification"):
        figures = (_percent(quality.get("accuracy")), _percent(quality.get("ece")))
    else:
        figures = (f"{quality['mae']:g}", f"{quality['samples']:,.0f}") if "mae" in quality else ("–", "–")
    return (
        f"| {variant.id} | {variant.student or '–'} | {variant.file.bytes:,} | {variant.macs or '–'} | "
        f"{figures[0]} | {figures[1]} | {', '.join(variant.meant_for) or 'any'} |"
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"
