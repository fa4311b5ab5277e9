"""Rows of ``scripts/bench/runtime`` that need processes of their own: the start, a batch of rows."""

from __future__ import annotations

import sys
import time

import numpy as np
from models import MLP_SHAPE, mlp_onnx
from runtime_memory import BARE, NAMES
from runtime_parts import NotMeasuredError, Row, Setting, run

PEAK = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
FIRST = """
import sys, numpy as np
from edge_agent.engine import Engine
engine = Engine.load(sys.argv[1])
engine.infer(np.zeros(engine.manifest.sample.shape, engine.manifest.sample.dtype))
"""


def start(setting: Setting) -> list[Row]:
    """From exec to the first answer and the end; the first run only warms the cache."""
    models = {"onnxruntime": mlp_onnx(setting.directory / "mlp.onnx")}
    if setting.resnet8 is not None:
        models["litert"] = setting.resnet8
    rows = []
    for runtime, target in (("litert", 0.25), ("onnxruntime", 0.35)):
        name = f"cold start, exec to first answer, {NAMES[runtime]}"
        if runtime not in models:
            rows.append(Row(name, unit="s", target=target, why="not measured: give --resnet8 FILE.tflite"))
            continue
        model = str(models[runtime])
        times: dict[str, list[float]] = {FIRST: [], BARE[runtime]: []}
        for turn in range(4 if setting.quick else 10):
            for code, found in times.items():
                begin = time.perf_counter()
                run([sys.executable, "-c", code, model])
                if turn:
                    found.append(time.perf_counter() - begin)
        raw = f"{sorted(times[BARE[runtime]])[len(times[BARE[runtime]]) // 2]:.3f} s, loading only"
        rows.append(Row(name, tuple(times[FIRST]), "s", target, raw=raw))
    return rows


def batch(setting: Setting) -> list[Row]:
    """``edge-agent infer`` on rows of an NPZ file, against one call of ``Engine.infer`` a row."""
    from edge_agent.engine import Engine

    model = mlp_onnx(setting.directory / "mlp.onnx")
    rows = 100_000 if setting.quick else 1_000_000
    x = np.random.default_rng(3).normal(size=(rows, *MLP_SHAPE)).astype(np.float32)
    engine = Engine.load(model, learn=0)
    begin = time.perf_counter()
    for sample in x[:20_000]:
        engine.infer(sample)
    single = 20_000 / (time.perf_counter() - begin)
    engine.close()
    code = "import sys; from edge_agent.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += PEAK  # ru_maxrss would begin with that of this process
    shares, peaks = [], []
    for part in (rows // 10, rows):
        given, out = setting.directory / f"rows{part}.npz", setting.directory / f"out{part}.npz"
        np.savez(given, x=x[:part])
        begin = time.perf_counter()
        text = run([sys.executable, "-c", code, "infer", str(model), str(given), "--out", str(out), "--restart"])
        seconds = time.perf_counter() - begin
        if not out.exists():
            raise NotMeasuredError(f"edge-agent infer wrote nothing: {text[-200:]}")
        peaks.append(int(text.split()[-1]) / 1024)
        shares.append(part / seconds / single)
    why = f"{rows:,} rows, start included; peak {peaks[1]:.0f} MiB, a tenth of the rows {peaks[0]:.0f} MiB"
    name = "batch rows, MLP from NPZ, over the one-at-a-time rate"
    return [Row(name, (shares[1],), "", 5.0, at_least=True, raw=f"one at a time {single:,.0f} rows/s", why=why)]
