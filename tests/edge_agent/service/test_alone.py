"""A model that runs alone, as a process."""

import os
import signal
import subprocess
import sys
import time

import numpy as np

from edge_agent import Engine
from edge_agent.state import SavedMonitor, StateDirectory
from tests.edge_agent.backends.models import mlp_onnx


def test_an_alarm_outlives_a_kill(tmp_path):
    model, state, log = tmp_path / "mlp.onnx", tmp_path / "state", tmp_path / "log"
    model.write_bytes(mlp_onnx("n"))
    probe = Engine.load(model, learn=0)
    shape = probe.manifest.sample.shape
    probe.close()
    x = np.random.default_rng(0).normal(size=(2600, *shape)).astype(np.float32)
    x[2000:] += 4
    np.savez(tmp_path / "x.npz", x=x)
    words = ["run", str(model), "--source", str(tmp_path / "x.npz"), "--rate", "2000", "--loop"]
    command = [sys.executable, "-m", "edge_agent.cli", *words, "--state", str(state), "--sink", os.devnull]
    with log.open("w") as errors, subprocess.Popen(command, stderr=errors) as process:
        try:
            end = time.monotonic() + 60
            while "drift: evidence" not in log.read_text():
                assert time.monotonic() < end
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            time.sleep(1.5)  # a thread beside writes it; without an alarm it would come after half a minute
        finally:
            process.send_signal(signal.SIGKILL)
    engine = Engine.load(model, baseline=state / "baseline.npz")
    directory = StateDirectory(state)
    engine.monitor.restore(directory.read(directory.monitor, SavedMonitor).data)
    assert engine.monitor.alarm
    engine.close()
