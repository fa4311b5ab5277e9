"""``cloud-trainer init``: a task that loads, made from a recipe and from a look at data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cloud_trainer.cli import main
from cloud_trainer.config import KINDS, load_task
from cloud_trainer.data import load_splits
from cloud_trainer.recipes import recipes
from tests.cloud_trainer.data.samples import rows, write_csv, write_images, write_jsonl, write_sounds

NAMES = sorted(recipes())


def test_every_kind_has_a_recipe(capsys):
    assert main(["init", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {one["kind"] for one in listed} == set(KINDS)
    assert all(one["text"] for one in listed)
    assert {"keywords", "vibration", "visual-inspection", "demand", "spam", "next-item"} <= {
        one["name"] for one in listed
    }


@pytest.mark.parametrize("name", NAMES)
def test_recipe_becomes_a_task_that_loads(tmp_path, name, capsys):
    assert main(["init", str(tmp_path / "My Task"), "--recipe", name]) == 0
    task = load_task(tmp_path / "My Task" / "task.toml")
    assert task.name == "my-task"
    assert str(tmp_path) in task.data.path
    assert task.kind in capsys.readouterr().out


def test_task_that_is_there_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "task.toml").write_text("mine")
    assert main(["init", str(tmp_path), "--recipe", "spam"]) == 2
    assert "exists already; --force overwrites it" in capsys.readouterr().err
    assert (tmp_path / "task.toml").read_text() == "mine"
    assert main(["init", str(tmp_path), "--recipe", "spam", "--force"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["d", "--recipe", "nothing"], "--recipe nothing: there is none of this name"),
        (["d"], "needs --recipe NAME or --data PATH"),
        ([], "DIR is missing"),
        (["d", "--data", "gone.csv"], "gone.csv: no such file or directory"),
        (["d", "--data", "."], "no images and no WAV files"),
    ],
)
def test_wrong_use_is_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["init", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "d").exists()


def start(tmp_path, data, *more):
    assert main(["init", str(tmp_path / "p"), "--data", str(data), *more]) == 0
    return load_task(tmp_path / "p" / "task.toml")


def test_table_is_looked_at(tmp_path):
    days = (np.datetime64("2024-01-01") + np.arange(400)).astype(str)
    path = write_csv(tmp_path / "d.csv", {"date": days, "machine": [f"m{i % 9}" for i in range(400)], **rows()})
    task = start(tmp_path, path)
    assert task.kind == "tabular-classification"
    assert (task.data.format, task.data.target, task.data.time, task.data.group) == ("csv", "label", "date", "machine")
    assert load_splits(task).train.columns == ("date", "a", "b", "color")


def test_numbers_to_foretell_make_a_regression(tmp_path):
    path = write_csv(tmp_path / "d.csv", {"x1": np.arange(400) % 7, "value": np.arange(400) * 1.5})
    assert start(tmp_path, path).kind == "tabular-regression"


def test_texts_without_a_header(tmp_path):
    lines = {"l": ["ham", "spam"] * 200, "t": [f'a "message" of words {i}' for i in range(400)]}
    task = start(tmp_path, write_csv(tmp_path / "d.tsv", lines, "\t", header=False))
    assert task.kind == "text-classification"
    assert task.data.names == ("label", "text")
    assert load_splits(task).train.labels == ("ham", "spam")


def test_json_lines_of_texts(tmp_path):
    columns = {"body": [f"words and more words {i}" for i in range(300)], "topic": ["x", "y", "z"] * 100}
    task = start(tmp_path, write_jsonl(tmp_path / "d.jsonl", columns))
    assert (task.kind, task.data.text, task.data.target) == ("text-classification", "body", "topic")
    assert len(load_splits(task).test) == 60


def test_interactions(tmp_path):
    path = write_csv(tmp_path / "d.csv", {"user": np.arange(400) % 20, "item": np.arange(400) % 7, "time": range(400)})
    task = start(tmp_path, path)
    assert (task.kind, task.data.user, task.data.item, task.data.time) == ("recommendation", "user", "item", "time")
    load_splits(task)


def test_recipe_and_data_together_leave_no_column_of_the_example(tmp_path):
    path = write_csv(
        tmp_path / "d.csv", {"day": (np.datetime64("2020-01-01") + np.arange(600)).astype(str), "demand": range(600)}
    )
    task = start(tmp_path, path, "--recipe", "demand")
    assert (task.kind, task.data.target, task.data.time) == ("forecasting", "demand", "day")
    assert load_splits(task).train.x.shape[1:] == (56, 2)


def test_windows_in_an_npz_file(tmp_path):
    lengths = np.full(120, 200)
    np.savez(
        tmp_path / "d.npz",
        X=np.zeros((24000, 3), np.int16),
        lens=lengths,
        y=np.arange(120) % 2,
        user=np.arange(120) // 10,
    )
    task = start(tmp_path, tmp_path / "d.npz")
    assert (task.kind, task.data.target, task.data.group) == ("series-classification", "y", "user")
    load_splits(task)


def test_folders_of_images_and_sounds(tmp_path):
    task = start(tmp_path, write_images(tmp_path / "i", ["cat", "dog"], 120))
    assert (task.kind, task.data.format) == ("image-classification", "image-folder")
    task = start(tmp_path, write_images(tmp_path / "n", ["good", "hole"], 240), "--force")
    assert (task.kind, task.data.target) == ("image-anomaly", "good")
    load_splits(task)
    task = start(tmp_path, write_sounds(tmp_path / "s", ["go", "stop"], 120), "--force")
    assert (task.kind, task.data.format, task.data.group) == ("audio-classification", "audio-folder", "prefix")
    load_splits(task)


def test_pictures_beside_the_classes_are_none(tmp_path, capsys):
    write_images(tmp_path / "images", ["cat", "dog"], 4)
    picture = next((tmp_path / "images" / "cat").iterdir())
    (tmp_path / "images" / "cover.png").write_bytes(picture.read_bytes())
    assert main(["init", str(tmp_path / "a"), "--data", str(tmp_path / "images")]) == 0
    assert "8 files in 2 classes: cat, dog" in capsys.readouterr().out
    assert main(["init", str(tmp_path / "b"), "--data", str(tmp_path / "images" / "cat")]) == 2
    assert "its files lie beside each other; expected a folder for each class" in capsys.readouterr().err


def test_data_beside_the_task_is_named_relative_to_it(tmp_path):
    (tmp_path / "p").mkdir()
    path = write_csv(tmp_path / "p" / "d.csv", rows())
    task = start(tmp_path, path)
    assert 'path = "d.csv"' in (tmp_path / "p" / "task.toml").read_text()
    assert task.data.path == path


def test_json_says_what_was_guessed(tmp_path, capsys):
    path = write_csv(tmp_path / "d.csv", rows())
    start(tmp_path, path, "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["kind"] == "tabular-classification"
    assert said["data"]["target"] == "label"
