"""Collected samples and the truth about them: counting, and writing what the trainer reads."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from cloud_trainer.controller import schema
from shared.errors import DataError
from shared.files import write_atomic
from shared.manifest import Manifest


def collected(connection: sa.Connection, incident: int) -> dict[str, int]:
    """Samples that each device has sent for an incident."""
    table = schema.samples
    query = sa.select(table.c.device, sa.func.count()).where(table.c.incident == incident).group_by(table.c.device)
    return {row[0]: row[1] for row in connection.execute(query)}


def labelled(connection: sa.Connection, incident: int, labels: tuple[str, ...]) -> int:
    """How many of an incident's samples have a truth that the model knows."""
    query = _with_truth(incident).with_only_columns(sa.func.count())
    return connection.scalar(query.where(schema.truth.c.label.in_(labels))) or 0


def _with_truth(incident: int) -> sa.Select[Any]:
    samples, truth = schema.samples, schema.truth
    same = (
        (truth.c.model == samples.c.model) & (truth.c.device == samples.c.device) & (truth.c.sample == samples.c.sample)
    )
    return (
        sa.select(samples.c.device, samples.c.sample, samples.c.dtype, samples.c.shape, samples.c.data, truth.c.label)
        .join(truth, same)
        .where(samples.c.incident == incident)
    )


def write_labelled(connection: sa.Connection, incident: int, manifest: Manifest, directory: Path) -> dict[str, int]:
    """Write one ``<device>.npz`` for each device: x (n, *shape) raw samples, y (n,) int64 index into the manifest's
    labels, ids (n,) text. Samples of another dtype or shape than the release's, and those without a known label, are
    left out.

    Returns:
        Samples written for each device.

    Raises:
        DataError: not a single sample has a label.
    """
    index = {label: number for number, label in enumerate(manifest.labels)}
    rows: dict[str, list[tuple[str, bytes, int]]] = {}
    query = _with_truth(incident).order_by(schema.samples.c.device, schema.samples.c.id)
    for device, sample, dtype, shape, data, label in connection.execute(query):
        if label in index and dtype == manifest.sample.dtype and tuple(json.loads(shape)) == manifest.sample.shape:
            rows.setdefault(device, []).append((sample, data, index[label]))
    if not rows:
        raise DataError(
            f"no labelled sample of incident {incident} is a {manifest.sample.dtype} {manifest.sample.shape}"
        )
    directory.mkdir(parents=True, exist_ok=True)
    dtype = np.dtype(manifest.sample.dtype).newbyteorder("<")
    for device, found in rows.items():
        x = np.frombuffer(b"".join(data for _, data, _ in found), dtype).reshape(len(found), *manifest.sample.shape)
        buffer = io.BytesIO()
        np.savez(
            buffer,
            x=x,
            y=np.array([label for _, _, label in found], np.int64),
            ids=np.array([sample for sample, _, _ in found]),
        )
        write_atomic(directory / f"{device}.npz", buffer.getvalue())
    return {device: len(found) for device, found in rows.items()}
