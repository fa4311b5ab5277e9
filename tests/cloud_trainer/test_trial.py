"""A model file that ends the process which loads it."""

import sys
from pathlib import Path

import pytest

from cloud_trainer import trial
from cloud_trainer.trial import try_file
from cloud_trainer.wrap import read_files
from shared.errors import BackendError
from tests.edge_agent.backends.models import mlp_onnx

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(mlp_onnx(1))
    return path


def test_a_file_that_loads_is_let_through(file):
    try_file(file)


def test_a_file_that_is_refused_in_words_is_left_to_who_asks(file):
    file.write_bytes(b"no model" * 40)
    try_file(file)


@pytest.mark.parametrize(
    ("number", "text"), [(11, r"crashed on it \(SIGSEGV\): the file is damaged"), (9, "too little memory")]
)
def test_a_file_that_ends_the_process_is_refused_before_anything_is_written(file, tmp_path, monkeypatch, number, text):
    monkeypatch.setattr(trial, "COMMAND", [sys.executable, "-c", f"import os; os.kill(os.getpid(), {number})"])
    with pytest.raises(BackendError, match=text) as failed:
        read_files([file], tmp_path / "release", ())
    assert str(failed.value).startswith(f"{file}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_file_that_never_ends_loading_is_refused(file, monkeypatch):
    monkeypatch.setattr(trial, "COMMAND", [sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(BackendError, match=r"still loading it after 0.2 s"):
        try_file(file, seconds=0.2)


def test_what_lies_in_the_working_directory_is_not_run(file, tmp_path, monkeypatch):
    """Models are unpacked from archives of strangers, and packaged where they lie."""
    place = tmp_path / "downloaded"
    place.mkdir()
    for name in ("edge_agent", "numpy"):
        (place / f"{name}.py").write_text(f"open({str(place / 'ran')!r}, 'w')")
    monkeypatch.chdir(place)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    try_file(file)
    assert not (place / "ran").exists()
