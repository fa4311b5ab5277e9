from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest

from cloud_trainer.demo import camera, data


@pytest.fixture
def pool(tmp_path):
    path = tmp_path / "pool.npz"
    data.save_pool(path, "cam-1")
    return data.load_pool(path)


def take(lines, count):
    records = [json.loads(line) for line in islice(lines, count)]
    x = np.stack([np.frombuffer(base64.b64decode(r["data"]), np.uint8).reshape(16, 16) for r in records])
    return [r["id"] for r in records], x


def test_pictures_come_in_order_and_as_the_stream_has_them(pool, tmp_path):
    ids, x = take(camera.pictures("cam-1", 7, pool, camera.Flag(tmp_path / "bad")), 70)
    assert ids == [f"cam-1-{i:06d}" for i in range(70)]
    assert (x[:64] == data.stream(pool, "cam-1", 7, 0)[0]).all()
    assert (x[64:] == data.stream(pool, "cam-1", 7, 1)[0][:6]).all()


def test_the_flag_turns_pictures_bad_from_the_index_that_is_noted(pool, tmp_path):
    flag = tmp_path / "bad"
    lines = camera.pictures("cam-1", 7, pool, camera.Flag(flag))
    _, before = take(lines, 10)
    flag.touch()
    _, after = take(lines, 100)
    clean, _ = data.stream(pool, "cam-1", 7, 0)
    bad = data.spoil(clean, "cam-1", 7, 0)
    assert camera.read_since(flag) == 10
    assert (before == clean[:10]).all()
    assert (after[:54] == bad[10:]).all()
    second = data.spoil(data.stream(pool, "cam-1", 7, 1)[0], "cam-1", 7, 1)
    assert (after[54:] == second[:46]).all()


def test_started_again_it_repeats_no_name_and_stays_bad(pool, tmp_path):
    flag = tmp_path / "bad"
    first = camera.pictures("cam-1", 7, pool, camera.Flag(flag))
    flag.touch()
    seen, _ = take(first, 70)
    flag.unlink()
    ids, x = take(camera.pictures("cam-1", 7, pool, camera.Flag(flag)), 5)
    assert not set(ids) & set(seen)
    block = data.parse_id(ids[0])[1] // data.BLOCK
    assert (x == data.spoil(data.stream(pool, "cam-1", 7, block)[0], "cam-1", 7, block)[:5]).all()


def test_the_process_ends_when_its_reader_does(tmp_path):
    pool = tmp_path / "pool.npz"
    data.save_pool(pool, "cam-1")
    command = [sys.executable, "-m", "cloud_trainer.demo.camera", "--device", "cam-1", "--seed", "1", "--rate", "200"]
    command += ["--pool", str(pool), "--bad-flag", str(tmp_path / "bad")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert json.loads(process.stdout.readline())["id"] == "cam-1-000000"
        process.stdout.close()
        assert process.wait(timeout=10) == 0


def test_it_imports_nothing_heavy():
    code = (
        "import sys, cloud_trainer.demo.camera\n"
        "print([m for m in ('sklearn', 'scipy', 'torch', 'msgspec', 'matplotlib') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert found.stdout.strip() == "[]"
