"""From a file of rows, texts or a series to answers of a device, each at its smallest."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_trainer.cli import main
from edge_agent import Engine
from edge_agent.selftest import self_test
from tests.cloud_trainer.kinds.generated import messages

QUICK = """
[features]
select = "none"
[training]
teacher_epochs = 2
student_epochs = 16
minimum_steps = 0
batch = 32
threads = 1
[export]
runtimes = ["onnxruntime"]
calibration_samples = 32
"""


def trained(directory, head):
    """The release of a task, through the command; every variant passes its self-test."""
    (directory / "task.toml").write_text(head + QUICK)
    assert main(["train", str(directory / "task.toml"), "--out", str(directory / "1")]) == 0
    engine = Engine.load(directory / "1", variant="fp32-onnx")
    self_test(engine)
    for variant in engine.manifest.variants[1:]:
        other = Engine.load(directory / "1", variant=variant.id)
        self_test(other)
        other.close()
    return engine


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    directory = tmp_path_factory.mktemp("table")
    random = np.random.default_rng(0)
    size, weight = random.normal(size=(2, 500)).round(3)
    colour = random.choice(["red", "green", "blue"], 500)
    grade = np.where(size + np.where(colour == "red", 1.5, -0.5) + 0.2 * random.normal(size=500) > 0, "high", "low")
    lines = ["size,colour,weight,grade"]
    lines += [
        f"{'' if i % 19 == 0 else size[i]},{'' if i % 23 == 0 else colour[i]},{weight[i]},{grade[i]}"
        for i in range(500)
    ]
    (directory / "rows.csv").write_text("\n".join(lines) + "\n")
    engine = trained(
        directory,
        'name = "rows"\nkind = "tabular-classification"\n[data]\nformat = "csv"\npath = "rows.csv"\ntarget = "grade"\n',
    )
    yield directory, engine
    engine.close()


def test_a_table_of_words_and_numbers_with_gaps(table):
    _, engine = table
    assert engine.manifest.variants[0].quality["accuracy"] > 0.85
    assert engine.infer(["2.5", "red", "0.1"]).label == "high"
    assert engine.infer(["-2.5", "blue", "0.1"]).label == "low"
    assert engine.infer(["", "", ""]).label in {"high", "low"}
    assert engine.infer(["2.5", "a colour that nobody saw", "0"]).label == "high"


def test_a_row_by_the_names_of_its_columns(table):
    _, engine = table
    named = engine.infer({"colour": "red", "weight": 0.1, "size": 2.5})
    np.testing.assert_array_equal(named.scores, engine.infer(["2.5", "red", "0.1"]).scores)


def test_what_the_report_and_the_card_say_of_it(table):
    directory, _ = table
    card, page = ((directory / "1" / name).read_text() for name in ("card.md", "report.html"))
    for text in (card, page):
        assert "missing in 2 of 3 columns" in text
    assert "balanced accuracy" in page


def test_texts(tmp_path):
    data = messages(400)
    lines = [f"{data.labels[k]}\t{text}" for text, k in zip(data.x, data.y, strict=True)]
    (tmp_path / "texts.tsv").write_text("\n".join(lines) + "\n")
    engine = trained(
        tmp_path,
        'name = "routing"\nkind = "text-classification"\n[data]\nformat = "csv"\npath = "texts.tsv"\n'
        'names = ["team", "text"]\ntext = "text"\ntarget = "team"\n',
    )
    assert engine.infer("the invoice 12 is wrong").label == "billing"
    assert engine.infer("where is my parcel 7").label == "delivery"
    engine.close()


def test_a_series_foretold_three_steps_ahead(tmp_path):
    at = np.arange(700)
    load = 50 + 10 * np.sin(at * np.pi / 4) + np.random.default_rng(0).normal(size=700)
    lines = ["hour,load", *(f"{i},{value:.3f}" for i, value in enumerate(load))]
    (tmp_path / "load.csv").write_text("\n".join(lines) + "\n")
    engine = trained(
        tmp_path,
        'name = "load"\nkind = "forecasting"\n[data]\nformat = "csv"\npath = "load.csv"\ntime = "hour"\n'
        'target = "load"\nhistory = 16\nhorizon = 3\n',
    )
    manifest = engine.manifest
    assert manifest.task == "forecast"
    assert manifest.variants[0].quality["r2"] > 0.7
    expected = 50 + 10 * np.sin(np.arange(716, 719) * np.pi / 4)
    past = np.empty((16, manifest.sample.shape[1]), np.float32)
    past[:] = np.arange(700, 716)[:, None]
    past[:, manifest.sample.columns.index("load")] = 50 + 10 * np.sin(np.arange(700, 716) * np.pi / 4)
    np.testing.assert_allclose(engine.infer(past).value, expected, atol=4)
    engine.close()
