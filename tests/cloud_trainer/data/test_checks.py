"""What the data checks find, and what they leave alone."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from cloud_trainer.data import Dataset, Splits, check_data, load_splits, stop_if_strict
from cloud_trainer.data.leaks import classes_apart, follows, words_tell
from shared.errors import DataError
from tests.cloud_trainer.data.samples import rows, task, write_csv


def found(tmp_path, columns, kind="tabular-classification", target="label", **more):
    """check -> findings, of a table."""
    wish = task(kind, format="csv", path=write_csv(tmp_path / "d.csv", columns), target=target, **more)
    result = {}
    for finding in check_data(wish, load_splits(wish)):
        result.setdefault(finding.check, []).append(finding)
    return result


def test_clean_rows_have_no_findings(tmp_path):
    assert not found(tmp_path, rows())


def test_constant_empty_and_counting_columns(tmp_path):
    said = found(tmp_path, {"id": np.arange(400), **rows(), "site": ["north"] * 400, "nothing": [""] * 400})
    assert [finding.where for finding in said["constant"]] == ["site"]
    assert [finding.where for finding in said["missing"]] == ["nothing"]
    assert [finding.where for finding in said["names"]] == ["id"]
    assert said["missing"][0].where == "nothing"


def test_missing_values_are_named_with_their_columns(tmp_path):
    columns = rows()
    few, many = columns["a"].astype(str), columns["b"].astype(str)
    few[:7], many[: 400 // 2] = "", "NA"
    said = found(tmp_path, columns | {"a": few, "b": many})["missing"]
    assert [finding.text for finding in said] == [
        "column 'b' has no value in 200 of 400 rows (50%)",
        "values are missing in 1 of 3 columns: a 7",
    ]


@pytest.mark.parametrize(
    ("name", "make", "why"),
    [
        ("copy", lambda label: label, "each of its words goes with one class"),
        ("code", lambda label: (label == "yes").astype(int), "its value tells the class without a mistake"),
        ("refund", lambda label: np.where(label == "yes", "12", ""), "it is missing for one class only"),
    ],
)
def test_column_that_gives_the_class_away_is_named(tmp_path, name, make, why):
    columns = rows()
    (finding,) = found(tmp_path, columns | {name: make(columns["label"]), "label": columns["label"]})["target leakage"]
    assert finding.where == name
    assert finding.severity == "error"
    assert why in finding.text


def test_columns_that_give_a_number_away_are_named(tmp_path):
    rng = np.random.default_rng(0)
    casual, registered = rng.integers(0, 50, 400), rng.integers(0, 50, 400)
    columns = {"casual": casual, "registered": registered, "hour": np.arange(400) % 24, "cnt": casual + registered}
    said = found(tmp_path, columns, "tabular-regression", "cnt")["target leakage"]
    assert "columns 'casual' and 'registered' give the target 'cnt' away (it is casual + registered)" in said[0].text
    columns = {
        "hour": np.arange(400) % 24,
        "cents": columns["cnt"] * 100 + rng.integers(0, 3, 400),
        "cnt": columns["cnt"],
    }
    (finding,) = found(tmp_path, columns, "tabular-regression", "cnt")["target leakage"]
    assert finding.where == "cents"


def test_good_features_are_no_leaks():
    rng = np.random.default_rng(0)
    y = rng.normal(size=2000)
    assert not follows(y + 0.1 * rng.normal(size=2000), y)
    labels = (y > 0).astype(int)
    assert not classes_apart(y + 0.1 * rng.normal(size=2000), labels)
    assert not words_tell(np.where(labels ^ (rng.random(2000) < 0.02), "a", "b").astype(object), labels)
    assert not words_tell(np.arange(2000).astype(str).astype(object), labels)


def test_imbalance_and_tiny_classes(tmp_path):
    columns = rows()
    columns["label"] = np.where(np.arange(400) % 21 == 0, "rare", "usual")
    said = found(tmp_path, columns)
    assert "class 'usual' has 380 samples, 'rare' 20" in said["imbalance"][0].text
    assert said["tiny classes"][0].where == "rare" if "tiny classes" in said else True
    columns["label"] = np.where(np.arange(400) % 24 == 0, "rare", "usual")
    assert "fewer than 10 training samples of rare" in found(tmp_path, columns)["tiny classes"][0].text


def test_repeats_and_contradictions(tmp_path):
    columns = {name: np.concatenate([values, values[:6]]) for name, values in rows().items()}
    columns["label"][400] = "no" if columns["label"][0] == "yes" else "yes"
    said = found(tmp_path, columns)
    assert said["duplicates"][0].text.startswith("6 of 406 samples (1.5%) are exact repeats")
    assert said["label conflicts"][0].text.startswith("1 different samples are there with more than one class")
    assert "leakage" not in said


def test_samples_of_the_train_part_in_the_test_part_are_an_error():
    x = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    data = Dataset(x, np.arange(400) % 2, ("a", "b"))
    parts = [data.take(np.arange(i, 400, 4)) for i in range(4)]
    parts[3] = msgspec.structs.replace(parts[3], x=np.concatenate([parts[0].x[:10], parts[3].x[10:]]))
    (finding, *_) = check_data(task(format="npz"), Splits(*parts))
    assert (finding.check, finding.severity, finding.where) == ("leakage", "error", "test")
    assert "10 of 100 samples of the test part (10.0%) are in the train part" in finding.text


def test_groups_on_both_sides_are_named(tmp_path):
    columns = rows() | {"machine": [f"m{i % 12}" for i in range(400)]}
    columns["label"] = columns.pop("label")
    said = found(tmp_path, columns, group="machine", split="random")["leakage"]
    assert {finding.where for finding in said} == {"validation", "reference", "test"}
    assert "12 groups of the test part are in the train part, too (m0, m1, m10 and 9 more)" in [f.text for f in said]
    assert "leakage" not in found(tmp_path, columns, group="machine")


def test_values_far_from_all_others_and_infinite_ones(tmp_path):
    columns = rows()
    a, b = columns["a"].astype(str), columns["b"].astype(str)
    a[5], b[7] = "-9999", "inf"
    said = found(tmp_path, columns | {"a": a, "b": b})
    assert "like -9999" in said["outliers"][0].text
    assert "1 infinite values" in said["infinite"][0].text
    b[7] = "1e300"
    assert "1 values that float32 cannot hold" in found(tmp_path, columns | {"b": b})["infinite"][0].text


def test_target_far_from_all_others_and_one_too_large(tmp_path):
    columns = rows()
    y = 2 * columns["a"] + columns["b"] ** 2
    y[3] = 1e12
    said = found(tmp_path, columns | {"label": y}, "tabular-regression")
    assert said["outliers"][0].text.startswith("the target: 1 values are far off (like 1e+12")
    y[3] = 1e60
    with pytest.raises(DataError, match=r"d\.csv:5: target column 'label' has 1e\+60, more than float32 holds"):
        found(tmp_path, columns | {"label": y}, "tabular-regression")


def test_columns_with_next_to_no_values_are_left_out(tmp_path):
    columns = rows()
    pool = np.full(400, "", object)
    pool[:12] = "yes"
    wish = task(format="csv", path=write_csv(tmp_path / "d.csv", columns | {"pool": pool}), target="label")
    splits = load_splits(wish)
    assert {part.columns for part in splits.parts().values()} == {("a", "b", "color")}
    assert {part.x.shape[1] for part in splits.parts().values()} == {3}
    assert "'pool'" in splits.findings[-1].text
    empty = {"a": [""] * 400, "b": [""] * 400, "label": columns["label"]}
    wish = task(format="csv", path=write_csv(tmp_path / "e.csv", empty), target="label")
    with pytest.raises(DataError, match=r"e\.csv: no column is left to learn from; all are empty, or nearly"):
        load_splits(wish)


def test_times_that_nobody_named(tmp_path):
    dates = (np.datetime64("2024-01-01") + np.arange(400)).astype(str)
    assert "name it in data.time" in found(tmp_path, {"day": dates, **rows()})["times"][0].text


def test_words_that_name_the_rows(tmp_path):
    assert found(tmp_path, {"who": [f"n{i}" for i in range(400)], **rows()})["names"][0].where == "who"


def test_black_images(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (400, 6, 6), dtype=np.uint8)
    x[:9] = 0
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(400) % 2)
    wish = task("image-classification", format="npz", path=str(tmp_path / "d.npz"))
    checks = [finding.check for finding in check_data(wish, load_splits(wish))]
    assert "blank" in checks


def test_strict_stops_at_the_worst_finding(tmp_path):
    columns = rows()
    wish = task(
        format="csv",
        path=write_csv(tmp_path / "d.csv", columns | {"copy": columns["label"], "one": [1] * 400}),
        target="label",
    )
    findings = check_data(wish, load_splits(wish))
    stop_if_strict(findings, strict=False)
    stop_if_strict((), strict=True)
    with pytest.raises(DataError, match=r"strict: target leakage: column 'copy' .* \(and 1 more findings\)"):
        stop_if_strict(findings, strict=True)
