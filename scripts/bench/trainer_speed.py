"""How fast the variants of an image network answer, and the training loop beside a bare one: what is timed, not scored.

One thread, one sample, the bare runtime; variants take turns in each round, so that a busy machine is busy for all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shared.manifest import Variant, load_manifest

ROUNDS, SECONDS = 7, 0.2
SAMPLES, BATCH, EPOCHS = 4096, 128, 3


def answer_times(release: Path, seed: int = 0) -> dict[str, float]:
    """Microseconds of one run of each variant: the median over rounds of each round's median."""
    rng = np.random.default_rng(seed)
    calls = {one.id: _call(release / one.file.path, one, rng) for one in load_manifest(release).variants}
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            rounds[name].append(_median_us(call))
    return {name: round(statistics.median(found), 2) for name, found in rounds.items()}


def _median_us(call: Callable[[], Any]) -> float:
    for _ in range(10):
        call()
    found, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        found.append(1e6 * (time.perf_counter() - start))
    return statistics.median(found)


def _call(file: Path, variant: Variant, rng: np.random.Generator) -> Callable[[], Any]:
    spec = variant.inputs[0]
    shape = [size or 1 for size in spec.shape]
    x = rng.normal(size=shape).astype(np.float32)
    if spec.dtype != "float32":
        x = rng.integers(-100, 100, shape).astype(spec.dtype)
    if variant.runtime == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: x}
        return lambda: session.run(None, feed)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=1)  # XNNPACK is on for float and int8 alike
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    return interpreter.invoke


def gain(times: dict[str, float], runtime: str) -> float:
    """fp32's time over the fastest int8 variant's; 0 where one of them is missing.

    >>> gain({"fp32-onnx": 10.0, "int8-onnx": 5.0, "int8-arm-onnx": 8.0}, "onnx")
    2.0
    """
    small = [value for name, value in times.items() if name.startswith("int8") and name.endswith(runtime)]
    full = times.get(f"fp32-{runtime}")
    return full / min(small) if small and full else 0.0


def throughput(rounds: int = 3) -> tuple[float, float]:
    """Samples a second of ``cloud_trainer.fit.train``, everything in it counted, and of a bare PyTorch loop, for the
    same network (the trainer's ResNet, width 16, 28 x 28), batch and optimizer; the best of alternating rounds each."""
    import torch
    from torch import nn

    from cloud_trainer.fit import Encoded, Plan, train
    from cloud_trainer.models import build
    from cloud_trainer.objectives import Classes

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, 1, 28, 28, generator=generator)
    y = torch.randint(0, 10, (SAMPLES,), generator=generator)
    plan = Plan(epochs=EPOCHS, batch=BATCH, learning_rate=3e-3, weight_decay=1e-4, seed=0)

    def bare(model: nn.Module) -> None:
        optimizer = torch.optim.AdamW(model.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
        steps = EPOCHS * (SAMPLES // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, steps)
        model.train()
        for _ in range(EPOCHS):
            for index in torch.randperm(SAMPLES).split(BATCH):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[index])[0], y[index]).backward()
                optimizer.step()
                schedule.step()

    def ours(model: nn.Module) -> None:
        train(model, Encoded(x, y), Encoded(x[:256], y[:256]), plan, objective=Classes(10))

    best = [0.0, 0.0]
    for _ in range(rounds):
        for k, loop in enumerate((ours, bare)):
            model = build(_network(), 0)
            start = time.perf_counter()
            loop(model)
            best[k] = max(best[k], SAMPLES * EPOCHS / (time.perf_counter() - start))
    return best[0], best[1]


def _network() -> Any:
    from cloud_trainer.models import ResNet

    return ResNet(input=(1, 28, 28), outputs=10, width=16, embedding=32)
