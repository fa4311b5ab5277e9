"""``card.md``: what a release is, for people, in the manner of model cards (Mitchell et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.manifest import Manifest, Variant


def card(
    manifest: Manifest,
    variants: Sequence[Variant],
    *,
    data: Mapping[str, int],
    values: tuple[float, float],
    left_out: Mapping[str, str],
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> str:
    """Markdown. ``data``: samples by part; ``values``: the smallest and largest in a sample; ``left_out``: variant ->
    reason; ``notes``: sentences; ``warnings``: what a person should know before it is used."""
    lineage = manifest.lineage
    made = f"{manifest.created} by sanderling {lineage.code_version}, seed {lineage.seed}"
    lines = [
        f"# {manifest.name}, release {manifest.version}",
        "",
        f"{manifest.task.capitalize()} into {len(manifest.labels)} classes: {', '.join(manifest.labels)}.",
        (
            f"Takes one {manifest.sample.kind} of shape {'×'.join(map(str, manifest.sample.shape))}, "
            f"{manifest.sample.dtype}, values from {values[0]:g} to {values[1]:g}. Made {made}."
        ),
        "",
        *(f"**Warning:** {warning}.\n" for warning in warnings),
        *(f"{note}\n" for note in notes),
        "## Variants",
        "",
        "| variant | student | bytes | MACs | accuracy | calibration error | meant for |",
        "|---|---|---:|---:|---:|---:|---|",
        *(_row(variant) for variant in variants),
        "",
        "Quality is measured through the engine that devices run, on samples that nothing was fitted on.",
        *(f"\n{name} was left out: {reason}." for name, reason in left_out.items()),
        "",
        "## Data",
        "",
        *(f"- {name}: {count:,} samples" for name, count in data.items()),
        "",
        f"Data digest `{lineage.data_sha256[:16]}`, configuration digest `{lineage.config_sha256[:16]}`, "
        + (f"trained on from release {lineage.parent}." if lineage.parent else "trained from scratch."),
        "",
        "## Limits",
        "",
        (
            "It knows only these classes, and inputs like the ones that it was trained on. Devices watch for others: "
            f"on a stream like the reference at most one false alarm in {manifest.drift.false_alarm_every:,} samples."
        ),
        "",
    ]
    return "\n".join(lines)


def _row(variant: Variant) -> str:
    quality = variant.quality
    return (
        f"| {variant.id} | {variant.student or '–'} | {variant.file.bytes:,} | {variant.macs or '–'} | "
        f"{_percent(quality.get('accuracy'))} | {_percent(quality.get('ece'))} | "
        f"{', '.join(variant.meant_for) or 'any'} |"
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"
