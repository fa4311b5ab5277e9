"""Whole releases around the two networks of the benchmarks, ONNX and (where the exporter is installed) TFLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_trainer.config import ExportConfig
from cloud_trainer.exporting.variants import Student, export_all, open_worker
from cloud_trainer.packaging import draft, finish, measure, profiles, staging, watch_of, write_golden
from cloud_trainer.progress import silent
from shared.manifest import DriftPolicy, Lineage, SampleSpec
from shared.pipeline.decode import Argmax, Softmax
from shared.pipeline.encode import Cast
from shared.pipeline.postprocess import Labels
from shared.pipeline.preprocess import Standardize
from shared.pipeline.spec import Pipeline

MLP_SHAPE, CNN_SHAPE = (16,), (3, 32, 32)
CONVOLUTIONS = ((3, 20, 1), (20, 32, 2), (32, 64, 2), (64, 64, 1), (64, 64, 2))


class Classifier(torch.nn.Module):
    """Layers that give the embedding, and one more that gives logits."""

    def __init__(self, *layers: torch.nn.Module) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(*layers[:-1])
        self.head = layers[-1]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and embedding."""
        embedding = self.body(x)
        return self.head(embedding), embedding


class Pool(torch.nn.Module):
    """Mean over both sides."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) to (n, channels)."""
        return x.mean((2, 3))


def network(name: str) -> tuple[torch.nn.Module, tuple[int, ...], int]:
    """``mlp`` (16 -> 32 -> 4) or ``cnn`` (12 MFLOP), its input and number of classes."""
    torch.manual_seed(0)
    if name == "mlp":
        return Classifier(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)).eval(), MLP_SHAPE, 4
    layers: list[torch.nn.Module] = []
    for inputs, outputs, stride in CONVOLUTIONS:
        layers += [torch.nn.Conv2d(inputs, outputs, 3, stride, 1), torch.nn.ReLU()]
    return Classifier(*layers, Pool(), torch.nn.Linear(64, 10)).eval(), CNN_SHAPE, 10


def make(directory: Path, name: str, *, samples: int) -> NDArray[Any]:
    """Write the release of ``name`` to ``directory`` (fp32 variants); returns float32 samples like its reference."""
    model, shape, classes = network(name)
    random = np.random.default_rng(7)
    x = random.normal(3, 2, (samples, *shape)).astype(np.float32)
    reference = random.normal(3, 2, (1000, *shape)).astype(np.float32)
    labels = tuple(f"class{k}" for k in range(classes))
    pipeline = Pipeline(
        preprocess=(Standardize(mean=(3.0,), std=(2.0,)),),
        encode=(Cast("float32"),),
        decode=(Softmax(), Argmax()),
        postprocess=(Labels(names=labels),),
    )
    progress = silent
    with staging(directory) as release:
        worker = open_worker(("onnxruntime", "litert"), progress)
        try:
            student = Student(model, shape, 0, name, ((x[:64] - 3) / 2).astype(np.float32))
            variants = export_all(student, ExportConfig(), release, worker, progress)
        finally:
            if worker is not None:
                worker.close()
        variants = [variant for variant in variants if variant.precision == "fp32"]
        manifest = draft(
            name,
            1,
            sample=SampleSpec("float32", shape),
            pipeline=pipeline,
            labels=labels,
            variants=variants,
            lineage=Lineage(data_sha256="0" * 64, config_sha256="0" * 64, code_version="0", seed=0),
            drift=DriftPolicy(),
        )
        measured = [measure(manifest, release, variant, {"test": reference}) for variant in variants]
        profile = profiles(watch_of(manifest, measured, "test"), measured, {"default": ("test", reference)})
        write_golden(release, reference, measured, "test")
        finish(manifest, release, measured, profile, {})
    return x
