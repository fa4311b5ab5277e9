"""Rows of ``scripts/bench/runtime`` that need processes of their own: memory, the start, a batch of rows."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from models import MLP_SHAPE, _weight, _write, mlp_onnx
from onnx import helper
from runtime_parts import NotMeasuredError, Row, Setting, run

RESIDENT = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')))"
AGENT = """
import ssl, sys, time
import numpy as np
import paho.mqtt.client as mqtt
from pathlib import Path
from edge_agent import Engine
from edge_agent.config import OutboxConfig
from edge_agent.outbox import Outbox
model, port, ca, state = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
engine = Engine.load(model, learn=200)
outbox = Outbox(state, OutboxConfig(), boot="bench")
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.tls_set_context(ssl.create_default_context(cafile=ca))
client.connect("localhost", port)
client.loop_start()
end = time.monotonic() + 10
while not client.is_connected():
    assert time.monotonic() < end, "no TLS connection to the broker"
    time.sleep(0.01)
sample = engine.manifest.sample
ramp = np.arange(np.prod(sample.shape)).reshape(sample.shape)
for turn in range(400):  # no numpy.random: the agent does not load it
    engine.infer((50 + 50 * np.sin(ramp * 0.37 + turn * 1.7)).astype(sample.dtype))
assert engine.monitor is not None, "the monitor is off"
"""
BARE = {
    "onnxruntime": "import sys, onnxruntime as o; o.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])",
    "litert": "import sys; from ai_edge_litert.interpreter import Interpreter as I\n"
    "i = I(sys.argv[1]); i.allocate_tensors()",
}
FIRST = """
import sys, numpy as np
from edge_agent.engine import Engine
engine = Engine.load(sys.argv[1])
engine.infer(np.zeros(engine.manifest.sample.shape, engine.manifest.sample.dtype))
"""
NAMES = {"litert": "LiteRT", "onnxruntime": "ONNX Runtime"}


def resnet8_onnx(path: Path) -> Path:
    """MLPerf Tiny's ResNet8 with random weights, its normalisations folded in: memory does not ask what it knows."""
    random = np.random.default_rng(8)
    nodes: list[Any] = []
    weights: list[Any] = []

    def convolution(source: str, name: str, inputs: int, outputs: int, stride: int, side: int) -> str:
        weights.append(_weight(random, f"w{name}", (outputs, inputs, side, side), inputs * side * side))
        given = [source, f"w{name}"]
        shape = {"pads": [side // 2] * 4, "strides": [stride] * 2}
        nodes.append(helper.make_node("Conv", given, [f"c{name}"], **shape))
        return f"c{name}"

    def relu(source: str) -> str:
        nodes.append(helper.make_node("Relu", [source], [f"a{source}"]))
        return f"a{source}"

    last = relu(convolution("input", "0", 3, 16, 1, 3))
    for block, (inputs, outputs, stride) in enumerate(((16, 16, 1), (16, 32, 2), (32, 64, 2))):
        inner = relu(convolution(last, f"{block}a", inputs, outputs, stride, 3))
        inner = convolution(inner, f"{block}b", outputs, outputs, 1, 3)
        beside = last if stride == 1 else convolution(last, f"{block}s", inputs, outputs, stride, 1)
        nodes.append(helper.make_node("Add", [inner, beside], [f"sum{block}"]))
        last = relu(f"sum{block}")
    weights.append(_weight(random, "w", (64, 10), 64))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    return _write(path, nodes, weights, (3, 32, 32), 10)


@contextlib.contextmanager
def broker(directory: Path) -> Iterator[tuple[int, Path]]:
    """A mosquitto with TLS on a free port, and its certificate."""
    program = shutil.which("mosquitto")
    if program is None or shutil.which("openssl") is None:
        raise NotMeasuredError("needs mosquitto and openssl")
    key, certificate, settings = (directory / name for name in ("key.pem", "ca.pem", "mosquitto.conf"))
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", key, "-out", certificate]
    subject = ["-newkey", "rsa:2048", "-nodes", "-days", "2", *named, *files]
    subprocess.run(["openssl", "req", "-x509", *subject], check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings.write_text(
        f"user root\nlistener {port} 127.0.0.1\nallow_anonymous true\ncertfile {certificate}\nkeyfile {key}\n"
    )
    process = subprocess.Popen([program, "-c", settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port, certificate
    finally:
        process.terminate()
        process.wait()


def memory(setting: Setting) -> list[Row]:
    """Resident memory of engine, monitor, outbox and an MQTT connection over TLS, after 400 answers."""
    models = {"onnxruntime": resnet8_onnx(setting.directory / "resnet8.onnx")}
    rows = []
    if setting.resnet8 is not None:
        models["litert"] = setting.resnet8
    with broker(setting.directory) as (port, certificate):
        for runtime, target in (("litert", 60.0), ("onnxruntime", 78.0)):
            name = f"engine, monitor, outbox, MQTT with TLS, ResNet8: RSS, {NAMES[runtime]}"
            if runtime not in models:
                rows.append(Row(name, unit="MiB", target=target, why="not measured: give --resnet8 FILE.tflite"))
                continue
            values = []
            for turn in range(1 if setting.quick else 5):
                state = setting.directory / f"{runtime}{turn}.db"
                given = [str(models[runtime]), str(port), str(certificate), str(state)]
                values.append(int(run([sys.executable, "-c", AGENT + RESIDENT, *given]).split()[-1]) / 1024)
            bare = run([sys.executable, "-c", BARE[runtime] + "\n" + RESIDENT, str(models[runtime])])
            rows.append(Row(name, tuple(values), "MiB", target, raw=f"{int(bare.split()[-1]) / 1024:.1f} MiB"))
    return rows


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
    code += RESIDENT.replace("VmRSS", "VmHWM")  # ru_maxrss would begin with that of this process
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
