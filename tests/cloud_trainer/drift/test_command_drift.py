"""``cloud-trainer drift``: what it prints, writes and returns."""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import pytest

from cloud_trainer.commands.drift import _every
from cloud_trainer.drift.ordered import Times
from shared.drift import ReferenceProfile
from tests.cloud_trainer.drift.conftest import joined, normal_table, write_csv


def hours(n, begin="2024-01-01", step=1.0):
    start = datetime.fromisoformat(begin)
    return [(start + timedelta(hours=i * step)).isoformat(sep=" ") for i in range(n)]


class Page(HTMLParser):
    """Complains about tags that are not closed; keeps what would load something."""

    VOID = frozenset({"meta", "br", "img", "input", "hr", "link"})

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.ids = [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in {"src", "href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.getpos())


def test_data_like_the_reference_is_silent_and_says_what_that_is_worth(drift, files, tmp_path):
    code, out, _ = drift(files[0], files[1])
    assert code == 0
    assert out.startswith("No change was found: in 2,000 rows")
    assert "an alarm rises in 40,000 rows at most once on average" in out
    assert "in these 2,000 rows is then at most 5 %" in out
    page = (tmp_path / "drift.html").read_text()
    assert ">no drift<" in page
    assert Page(page).loads == []


def test_a_shift_is_named_with_its_place_and_its_size(drift, files, tmp_path):
    code, out, _ = drift(files[0], files[2], "--json", "--out", tmp_path / "moved.html")
    found = json.loads(out)
    assert code == 0
    assert found["alarm"]
    assert found["evidence"] > 1000
    change = found["changes"][0]
    assert abs(change["start"]["row"] - 1000) <= 64
    assert 1000 < change["alarm"]["row"] <= 1064
    first, *others = found["columns"]
    assert first["name"] == "temp"
    assert first["mean_shift"] == pytest.approx(2.0, abs=0.5)
    assert first["after"] - first["before"] == pytest.approx(4.0, abs=1.0)
    assert all(other["evidence"] < 1 for other in others)
    assert found["headline"].startswith("The data changed: surely (evidence reached more than 10¹² times")
    page = (tmp_path / "moved.html").read_text()
    assert ">drift<" in page
    assert Page(page).loads == []
    assert found["report"] == str(tmp_path / "moved.html")


def test_only_who_asks_gets_an_exit_code_for_drift(drift, files):
    assert drift(files[0], files[2], "--no-report")[0] == 0
    assert drift(files[0], files[2], "--no-report", "--fail-on-drift")[0] == 1
    assert drift(files[0], files[1], "--no-report", "--fail-on-drift")[0] == 0


def test_no_report_leaves_no_file(drift, files, tmp_path):
    before = set(tmp_path.iterdir())
    drift(files[0], files[2], "--no-report")
    assert set(tmp_path.iterdir()) == before


def test_two_changes_with_quiet_between_are_found_apart(drift, tmp_path):
    reference = write_csv(tmp_path / "r.csv", normal_table(1000, 1))
    parts = (
        normal_table(1500, 5),
        normal_table(800, 6, temp=3.0),
        normal_table(2000, 7),
        normal_table(700, 8, hum=-9.0),
    )
    data = write_csv(tmp_path / "d.csv", joined(*parts))
    _, out, _ = drift(reference, data, "--json", "--all-alarms")
    changes = json.loads(out)["changes"]
    assert [change["columns"][0]["name"] for change in changes] == ["temp", "hum"]
    assert [abs(change["start"]["row"] - at) <= 64 for change, at in zip(changes, (1500, 4300), strict=True)] == [
        True
    ] * 2
    assert 2200 <= changes[0]["last"]["row"] <= 2400
    assert changes[0]["alarms"] > 5
    _, out, _ = drift(reference, data, "--all-alarms", "--no-report")
    assert "This is the first of 2 changes." in out
    assert out.count("\n  from about row ") == 2
    _, out, _ = drift(reference, data, "--json")
    found = json.loads(out)
    assert len(found["changes"]) == 1
    assert found["later"] == ["hum"]


def test_rows_are_sorted_by_time_and_places_are_dates(drift, tmp_path):
    reference = write_csv(tmp_path / "r.csv", {"when": hours(1000, "2023-01-01"), **normal_table(1000, 1)})
    table = {"when": hours(3000), **joined(normal_table(1000, 3), normal_table(2000, 4, temp=4.0))}
    order = np.random.default_rng(0).permutation(3000)
    data = write_csv(tmp_path / "d.csv", {name: np.asarray(column)[order] for name, column in table.items()})
    _, out, _ = drift(reference, data, "--time", "when", "--independent", "--json")
    found = json.loads(out)
    assert found["begin"]["time"] == "2024-01-01"
    assert found["end"]["time"] == "2024-05-04 23:00"
    assert abs(found["changes"][0]["start"]["row"] - 1000) <= 64
    assert found["changes"][0]["start"]["time"].startswith("2024-02-1")
    assert any("they were sorted" in note for note in found["notes"])
    assert {column["name"] for column in found["columns"]} == {"temp", "hum", "line"}


def test_sorted_and_shuffled_files_give_the_same_numbers(drift, tmp_path):
    reference = write_csv(tmp_path / "r.csv", {"t": range(500), **normal_table(500, 1)})
    table = {"t": np.arange(2000) * 0.5, **joined(normal_table(900, 3), normal_table(1100, 4, hum=4.0))}
    order = np.random.default_rng(0).permutation(2000)
    one = write_csv(tmp_path / "one.csv", table)
    two = write_csv(tmp_path / "two.csv", {name: np.asarray(column)[order] for name, column in table.items()})
    found = [json.loads(drift(reference, data, "--time", "t", "--independent", "--json")[1]) for data in (one, two)]
    assert found[0]["changes"] == found[1]["changes"]
    assert found[0]["evidence"] == found[1]["evidence"]


def test_a_duration_becomes_rows_at_the_rate_of_the_data(drift, tmp_path):
    reference = write_csv(tmp_path / "r.csv", {"when": hours(500), **normal_table(500, 1)})
    data = write_csv(tmp_path / "d.csv", {"when": hours(1000, step=0.25), **normal_table(1000, 2)})
    options = ("--time", "when", "--independent", "--json", "--false-alarm-every")
    found = json.loads(drift(reference, data, *options, "90d")[1])
    assert found["promise"]["false_alarm_every"] == pytest.approx(90 * 24 * 4)
    assert found["promise"]["asked"] == "90d"
    assert found["promise"]["chance"] == pytest.approx(1000 / 8640)


def test_plain_numbers_that_are_seconds_since_1970_have_a_rate_too():
    times = Times(1.7e9 + 60.0 * np.arange(100), "numbers", None, 0)
    assert _every("1d", 100, times, "t") == pytest.approx(1440)
    milliseconds = Times(1.7e12 + 60e3 * np.arange(100), "numbers", None, 0)
    assert _every("1d", 100, milliseconds, "t") == pytest.approx(1440)


def test_a_saved_profile_stands_for_its_file(drift, files, tmp_path):
    saved = tmp_path / "normal.npz"
    first = json.loads(drift(files[0], files[2], "--json", "--save-profile", saved)[1])
    again = json.loads(drift(saved, files[2], "--json")[1])
    assert again["changes"] == first["changes"]
    assert ReferenceProfile.load(saved).names == ("temp", "hum", "line")
    page = (tmp_path / "drift.html").read_text()
    assert ">A<" in page.replace("<title>A</title>", ">")  # the words of categories are kept beside the profile


def test_a_profile_of_the_api_serves_as_reference(drift, tmp_path):
    rng = np.random.default_rng(0)
    ReferenceProfile.fit(rng.normal(size=(500, 2)), ["a", "b"]).save(tmp_path / "p.npz")
    np.savez(tmp_path / "d.npz", b=rng.normal(size=800), a=rng.normal(3.0, size=800))
    found = json.loads(drift(tmp_path / "p.npz", tmp_path / "d.npz", "--json")[1])
    assert found["alarm"]
    assert found["columns"][0]["name"] == "a"


def test_csv_npz_and_parquet_of_the_same_rows_give_the_same_numbers(drift, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    reference, data = normal_table(400, 1), joined(normal_table(500, 2), normal_table(500, 3, temp=2.0))
    for table in (reference, data):
        table["open"] = table["temp"] > 21
    found = []
    for kind in ("csv", "npz", "parquet"):
        paths = [tmp_path / f"{name}.{kind}" for name in "rd"]
        for path, table in zip(paths, (reference, data), strict=True):
            if kind == "csv":
                write_csv(path, table)
            elif kind == "npz":
                np.savez_compressed(path, **table)
            else:
                pq.write_table(pa.table(table), path, row_group_size=333)
        found.append(json.loads(drift(*paths, "--json")[1]))
    assert found[0]["alarm"]
    assert found[0]["changes"] == found[1]["changes"] == found[2]["changes"]


def test_the_order_of_columns_and_extra_ones_do_not_matter(drift, files, tmp_path):
    table = normal_table(2000, 2)
    other = write_csv(tmp_path / "o.csv", {"new": range(2000), **dict(reversed(table.items()))})
    one, two = (json.loads(drift(files[0], data, "--json")[1]) for data in (files[1], other))
    assert one["columns"] == two["columns"]
    assert "Only the data has new: not watched" in two["notes"]


def test_what_is_watched_can_be_said(drift, files):
    def watched(*options):
        return {c["name"]: c["kind"] for c in json.loads(drift(*files[:2], "--json", *options)[1])["columns"]}

    assert watched() == {"temp": "value", "hum": "value", "line": "category"}
    assert watched("--columns", "hum,line") == {"hum": "value", "line": "category"}
    assert watched("--ignore", "hum") == {"temp": "value", "line": "category"}


def test_a_tolerance_keeps_a_small_shift_silent(drift, tmp_path):
    reference = write_csv(tmp_path / "r.csv", normal_table(1000, 1))
    data = write_csv(tmp_path / "d.csv", normal_table(3000, 2, temp=0.5))
    assert json.loads(drift(reference, data, "--json")[1])["alarm"]
    silent = json.loads(drift(reference, data, "--json", "--tolerance", "0.5")[1])
    assert not silent["alarm"]
    assert silent["promise"]["tolerance"] == 0.5


def test_missing_values_that_appear_are_a_change_of_their_own(drift, tmp_path):
    reference = write_csv(tmp_path / "r.csv", normal_table(1000, 1))
    data = {name: list(column) for name, column in normal_table(2000, 2).items()}
    for i in range(1000, 2000, 4):
        data["temp"][i] = "n/a" if i % 8 else ""
    _, out, _ = drift(reference, write_csv(tmp_path / "d.csv", data), "--json")
    found = json.loads(out)
    assert found["columns"][0]["name"] == "temp"
    assert found["columns"][0]["missing_after"] == pytest.approx(0.25, abs=0.02)
    assert "temp (missing 0 % → 25 %)" in found["headline"]


def test_a_series_taken_as_independent_is_told_so(drift, tmp_path):
    walk = np.cumsum(np.random.default_rng(0).normal(size=2000)) * 0.1
    reference = write_csv(tmp_path / "r.csv", {"level": walk[:1000]})
    data = write_csv(tmp_path / "d.csv", {"level": walk[1000:]})
    _, _, error = drift(reference, data, "--no-report")
    assert "Neighbouring rows of the reference resemble each other" in error
    assert "name their time column with --time" in error
    _, out, _ = drift(reference, data)
    assert out.startswith("The data probably changed (evidence reached more than 10¹² times the alarm threshold, but")
    page = (tmp_path / "drift.html").read_text()
    assert "not promised for all columns" in page
    assert "≤ 5 %" not in page


def test_a_time_ordered_reference_keeps_quiet_on_a_series_without_change(drift, tmp_path):
    rng = np.random.default_rng(4)
    level = np.zeros(9000)
    for i in range(1, len(level)):
        level[i] = 0.6 * level[i - 1] + rng.normal()
    times = hours(9000)
    reference = write_csv(tmp_path / "r.csv", {"when": times[:3000], "level": level[:3000]})
    quiet = write_csv(tmp_path / "q.csv", {"when": times[3000:], "level": level[3000:]})
    level[6000:] += 4 * level[:3000].std()
    moved = write_csv(tmp_path / "m.csv", {"when": times[3000:], "level": level[3000:]})
    code, out, _ = drift(reference, quiet, "--time", "when", "--json")
    assert code == 0
    assert not json.loads(out)["alarm"]
    found = json.loads(drift(reference, moved, "--time", "when", "--json")[1])
    assert found["alarm"]
    assert abs(found["changes"][0]["start"]["row"] - 3000) < 300
    assert found["columns"][0]["name"] == "level"


def test_it_needs_neither_torch_nor_matplotlib_nor_scipy(files, tmp_path):
    code = (
        "import sys\n"
        "for name in ('torch', 'matplotlib', 'scipy', 'sklearn', 'onnx', 'onnxruntime', 'pyarrow', 'sqlalchemy'):\n"
        "    sys.modules[name] = None\n"
        "from cloud_trainer.cli import main\n"
        f"sys.exit(main(['drift', {str(files[0])!r}, {str(files[2])!r}, '--out', {str(tmp_path / 'x.html')!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.html").stat().st_size > 10_000


@pytest.mark.parametrize("rows", [1, 5, 33])
def test_a_handful_of_rows_is_little_but_no_mistake(drift, files, tmp_path, rows):
    data = write_csv(tmp_path / "d.csv", normal_table(rows, 2))
    code, out, _ = drift(files[0], data)
    assert (code, out.startswith("No change was found")) == (0, True)
    Page((tmp_path / "drift.html").read_text())


def test_a_saved_profile_and_the_time_of_the_data(drift, files, tmp_path):
    drift(*files[:2], "--save-profile", tmp_path / "p.npz", "--no-report")
    moved = joined(normal_table(700, 3), normal_table(700, 4, hum=20.0))
    data = write_csv(tmp_path / "d.csv", {"when": hours(1400), **moved})
    found = json.loads(drift(tmp_path / "p.npz", data, "--time", "when", "--json")[1])
    assert found["changes"][0]["start"]["time"].startswith("2024-01-30")


def test_hostile_names_and_words_stay_text_in_the_report(drift, tmp_path):
    evil = '<script>alert("x")</script>'
    rng = np.random.default_rng(0)
    reference = {evil: rng.choice(["<b>", "&amp;"], 500), "x": rng.normal(size=500)}
    data = {evil: rng.choice(["<b>", "<i>"], 500), "x": rng.normal(size=500)}
    drift(write_csv(tmp_path / "r.csv", reference), write_csv(tmp_path / "d.csv", data))
    page = (tmp_path / "drift.html").read_text()
    Page(page)
    assert "<script" not in page
    assert "<b>&lt;script&gt;" in page
