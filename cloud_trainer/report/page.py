"""The whole page, in the order of the seven steps of training."""

from __future__ import annotations

from html import escape

from cloud_trainer.report.context import Context
from cloud_trainer.report.sections.architecture import architecture
from cloud_trainer.report.sections.collection import collection, labelling
from cloud_trainer.report.sections.export import cost, lineage, reference
from cloud_trainer.report.sections.features import features
from cloud_trainer.report.sections.head import head
from cloud_trainer.report.sections.training import training
from cloud_trainer.report.sections.validation import robustness, validation
from cloud_trainer.report.sections.variants import gates, variants
from cloud_trainer.report.style import STYLE
from cloud_trainer.report.views import ReportData

SECTIONS = (
    head, gates, collection, labelling, features, architecture, training, validation, robustness, variants, reference,
    cost, lineage,
)  # fmt: skip


def report(data: ReportData) -> str:
    """``report.html``: one file, no script, no network."""
    context = Context(data)
    title = escape(f"{data.manifest.name}, release {data.manifest.version}")
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<style>{STYLE}</style></head><body><main>",
            *(text for part in SECTIONS if (text := part(context))),
            "</main></body></html>",
            "",
        ]
    )
