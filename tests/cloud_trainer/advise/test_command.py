"""``cloud-trainer advise``: data that is only looked at, releases, options that fit and others."""

import json
import wave

import numpy as np
import pytest

from cloud_trainer.advise import train_share
from cloud_trainer.advise.facts import look
from cloud_trainer.cli import main
from cloud_trainer.config import DataConfig, TaskConfig, load_task
from cloud_trainer.room import anomaly_samples
from shared.errors import DataError, UsageError


@pytest.fixture
def task(tmp_path):
    """Writes ``task.toml`` for a file of the folder and returns its path."""

    def write(kind, data, more=""):
        path = tmp_path / "task.toml"
        path.write_text(f'name = "a"\nkind = "{kind}"\n{more}\n[data]\n{data}\n', encoding="utf-8")
        return path

    write.folder = tmp_path
    return write


def told(capsys, *arguments, code=0):
    assert main(["advise", *map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments, code=2):
    assert main(["advise", *map(str, arguments)]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_images_in_an_npz_file_are_counted_by_its_header(task, capsys):
    np.savez(task.folder / "a.npz", x=np.zeros((120, 28, 28), np.uint8), y=np.arange(120) % 10)
    found = told(capsys, task("image-classification", 'format = "npz"\npath = "a.npz"'))
    assert found["known"]["samples"] == "120 (counted in a.npz)"
    assert found["known"]["teacher"].startswith("58,100,000 MACs")
    assert found["train"]["word"] == "CPU"


def test_arrays_of_other_names_columns_and_series_in_an_npz_file(task):
    kind = task("series-classification", 'format = "npz"\npath = "a.npz"\nwindow = 100')
    np.savez(task.folder / "a.npz", X=np.zeros((1000, 3), np.uint8), lens=np.array([400, 600]), y=np.array([0, 1]))
    assert (look(load_task(kind)).samples, look(load_task(kind)).shape) == (10, (100, 3))
    np.savez(task.folder / "a.npz", a=np.zeros(70), b=np.zeros(70), y=np.arange(70))
    table = task("tabular-regression", 'format = "npz"\npath = "a.npz"\ntarget = "y"')
    assert (look(load_task(table)).samples, look(load_task(table)).shape) == (70, (2,))
    np.savez(task.folder / "a.npz", x=np.zeros((500, 3)))
    forecast = task("forecasting", 'format = "npz"\npath = "a.npz"\nhistory = 90\nhorizon = 11')
    assert look(load_task(forecast)).samples == 400
    np.savez(task.folder / "a.npz", x=np.float64(3))
    with pytest.raises(DataError, match="x is one number"):
        look(load_task(forecast))


def test_rows_and_columns_of_a_table_are_counted(task, capsys):
    lines = ["a;b;c;y", *("1;2;3;4" for _ in range(500))]
    (task.folder / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    path = task("tabular-regression", 'format = "csv"\npath = "a.csv"\ntarget = "y"')
    facts = look(load_task(path))
    assert (facts.samples, facts.shape, facts.outputs) == (500, (3,), 1)
    found = told(capsys, path, "--requests-per-second", 7, "--years", 1)
    assert found["asked"]["requests_per_second"] == 7
    assert found["asked"]["years"] == 1


def test_windows_of_a_series_and_steps_of_a_forecast(task):
    (task.folder / "a.csv").write_text("t,v,w\n" + "1,2,3\n" * 1000, encoding="utf-8")
    series = task("series-classification", 'format = "csv"\npath = "a.csv"\ntarget = "w"\nwindow = 100\nstep = 50')
    assert look(load_task(series)).samples == 20
    assert look(load_task(series)).shape == (100, 2)
    forecast = task("forecasting", 'format = "csv"\npath = "a.csv"\ntarget = "v"\nhistory = 90\nhorizon = 11')
    assert look(load_task(forecast)).samples == 900
    assert look(load_task(forecast)).outputs == 11


def test_a_long_text_file_is_reckoned_from_its_beginning(task, monkeypatch):
    monkeypatch.setattr("cloud_trainer.advise.facts.LOOK", 1 << 20)
    (task.folder / "a.jsonl").write_text('{"text": "hello", "label": "a"}\n' * 100_000, encoding="utf-8")
    facts = look(load_task(task("text-classification", 'format = "jsonl"\npath = "a.jsonl"')))
    assert facts.samples == pytest.approx(100_000, rel=0.001)
    assert facts.how.startswith("reckoned")


def test_parquet_is_counted_by_its_footer(task):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"a": range(70), "b": range(70), "y": range(70)}), task.folder / "a.parquet")
    path = task("tabular-classification", 'format = "parquet"\npath = "a.parquet"\ntarget = "y"')
    assert (look(load_task(path)).samples, look(load_task(path)).shape) == (70, (2,))


def test_folders_of_pictures_and_of_sounds(task):
    image = pytest.importorskip("PIL.Image")
    for name in ("cat/1.png", "cat/2.png", "dog/3.png"):
        (task.folder / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        image.new("RGB", (40, 30)).save(task.folder / "pictures" / name)
    facts = look(load_task(task("image-classification", 'format = "image-folder"\npath = "pictures"')))
    assert (facts.samples, facts.shape, facts.outputs) == (3, (30, 40, 3), 2)
    (task.folder / "sounds" / "yes").mkdir(parents=True)
    with wave.open(str(task.folder / "sounds" / "yes" / "1.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 4000))
    facts = look(load_task(task("audio-classification", 'format = "audio-folder"\npath = "sounds"')))
    assert (facts.samples, facts.shape) == (1, (4000,))


def test_keys_of_the_task_file_count_and_options_go_before_them(task, capsys):
    np.savez(task.folder / "a.npz", x=np.zeros((50, 8, 8), np.uint8), y=np.arange(50) % 2)
    more = '[advise]\nrequests_per_second = 3\nwhere = "edge"\nsites = 5'
    path = task("image-classification", 'format = "npz"\npath = "a.npz"', more)
    found = told(capsys, path, "--sites", 9)
    assert found["asked"]["where"] == "edge"
    assert found["infer"]["count"] == 9
    assert {one["device"] for one in found["inference"]} >= {"raspberry-pi-4", "x86-edge"}
    assert "l4" not in {one["device"] for one in found["inference"]}


def test_a_release_brings_measured_macs_and_sizes(release, task, capsys):
    np.savez(task.folder / "a.npz", x=np.zeros((50, 8, 8), np.uint8), y=np.arange(50) % 2)
    path = task("image-classification", 'format = "npz"\npath = "a.npz"')
    found = told(capsys, path, "--release", release)
    assert "measured: fp32-" in found["known"]["student"]
    assert found["known"]["teacher"].endswith("(rule: the student's over 0.1)")
    macs = json.loads((release / "manifest.json").read_text(encoding="utf-8"))["variants"][0]["macs"]
    assert found["known"]["student"].startswith(f"{macs:,} MACs")
    assert not any("--release" in note for note in found["notes"])


def test_plain_numbers_need_no_file(capsys):
    found = told(capsys, "--kind", "tabular-regression", "--samples", "5e4", "--features", 30, "--macs", "2e6")
    assert found["title"] == "tabular-regression"
    assert found["known"]["student"].startswith("2,000,000 MACs")
    found = told(capsys, "--kind", "language-model", "--params", "8e9", "--samples", 500, "--answer-tokens", 50)
    assert found["infer"]["word"] == "GPU"
    assert found["known"]["parameters"] == "8,000,000,000 (given)"


@pytest.mark.parametrize("name", ["daily-sales", "image-shop", "llm-agent"])
def test_examples_are_told_to_people(name, capsys):
    assert main(["advise", "--example", name]) == 0
    text = capsys.readouterr().out
    assert text.startswith(name)
    assert "Arithmetic of inference" in text


def test_the_table_of_device_classes_alone(capsys):
    assert main(["advise", "--devices"]) == 0
    assert "jetson-orin-nano" in capsys.readouterr().out
    assert {one["name"] for one in told(capsys, "--devices")} > {"h100", "x86-edge"}


def test_what_nothing_can_do_is_a_failure_that_is_explained(capsys):
    assert main(["advise", "--example", "image-shop", "--latency-ms", "0.001"]) == 1
    assert "Infer on: nothing in the table will do" in capsys.readouterr().out


def test_what_is_missing_or_too_much_is_named(capsys, task):
    assert "a task file, --example" in refused(capsys)
    assert "task and example: give only one" in refused(capsys, "task.toml", "--example", "llm-agent")
    assert "needs --samples" in refused(capsys, "--kind", "forecasting")
    assert "needs --params" in refused(capsys, "--kind", "language-model")
    assert "--macs means nothing for a language model" in refused(capsys, "--example", "llm-agent", "--macs", "1e9")
    wrong = refused(capsys, "--example", "daily-sales", "--prompt-tokens", "9")
    assert "--prompt-tokens means nothing for this kind of task" in wrong
    path = task("image-classification", 'format = "npz"\npath = "none.npz"')
    assert "no such file or folder" in refused(capsys, path)
    assert "none.toml: no such file" in refused(capsys, task.folder / "none.toml")
    assert "not a release directory" in refused(
        capsys, "--kind", "forecasting", "--samples", 9, "--release", task.folder, code=1
    )


@pytest.mark.parametrize("value", ["0", "-3", "nan", "inf", "many"])
def test_numbers_that_are_none(value, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["advise", "--example", "llm-agent", f"--requests-per-second={value}"])
    assert stopped.value.code == 2
    assert "--requests-per-second" in capsys.readouterr().err


def test_a_wrong_key_in_the_task_file_is_named_with_its_line(capsys, task):
    path = task("forecasting", 'format = "csv"\npath = "a.csv"', "[advise]\nrequest_per_second = 3")
    assert "request_per_second" in refused(capsys, path)


@pytest.mark.parametrize(
    ("format_", "content"),
    [("npz", b"not a zip"), ("parquet", b"PAR"), ("csv", b"a,b\n"), ("image-folder", None), ("audio-folder", None)],
)
def test_data_of_another_format_is_named(format_, content, tmp_path):
    path = tmp_path / "data"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    kind = "audio-classification" if format_ == "audio-folder" else "tabular-regression"
    with pytest.raises(DataError, match="data: "):
        look(TaskConfig(name="a", kind=kind, data=DataConfig(format=format_, path=str(path))))


def test_a_factory_is_not_called(tmp_path):
    with pytest.raises(UsageError, match="give --samples"):
        look(TaskConfig(name="a", kind="forecasting", data=DataConfig(format="python", factory="os:abort")))


def pictures(folder, **counts):
    """Empty files that only their names are looked at of, but for the first of each."""
    from PIL import Image

    for name, count in counts.items():
        place = folder / "images" / name.replace("__", "/")
        place.mkdir(parents=True)
        for i in range(count):
            if i:
                (place / f"{i:04}.png").touch()
            else:
                Image.new("L", (32, 32)).save(place / "0000.png")


ANOMALY = 'format = "image-folder"\npath = "images"'


def made(found):
    """Samples that a teacher of anomalies is trained on."""
    line = next(line for line in found["train"]["lines"] if line.startswith("teacher"))
    assert "(made-up anomalies and as many normal images)" in line
    return int(line.split()[1].replace(",", ""))


def test_of_anomalies_the_samples_are_counted_that_a_training_makes_of_normal_images(task, capsys):
    pytest.importorskip("PIL")
    pictures(task.folder, good=300, crack=90, _hidden=50)
    path = task("image-anomaly", ANOMALY)
    found = look(load_task(path))
    assert (found.samples, found.normal, found.shape) == (390, 300, (32, 32, 1))
    config = load_task(path)
    expected = anomaly_samples(round(300 * train_share(config)), 32 * 32)
    assert 4000 < expected < 16_000
    assert made(told(capsys, path)) == expected
    assert made(told(capsys, path, "--samples", 10**9)) == 16_000
    assert "1,000,000,000" in told(capsys, path, "--samples", 10**9)["known"]["samples"]
    assert made(told(capsys, "--kind", "image-anomaly", "--samples", 1)) < 4000  # of photographs there is room for some


def test_normal_images_are_those_that_the_trainer_takes_for_it(task, capsys):
    pytest.importorskip("PIL")
    pictures(task.folder, train__good=200, test__good=40, test__crack=60, ground_truth__crack=60)
    found = look(load_task(task("image-anomaly", ANOMALY)))
    assert (found.samples, found.normal) == (300, 240)
    found = look(load_task(task("image-anomaly", ANOMALY + '\ntarget = "crack"')))
    assert found.normal == 60
    assert "no class 'nope'" in refused(capsys, task("image-anomaly", ANOMALY + '\ntarget = "nope"'), code=1)
    x, y = np.zeros((900, 16, 16), np.uint8), np.repeat([0, 1], [600, 300])
    np.savez(task.folder / "a.npz", x=x, y=y)
    assert look(load_task(task("image-anomaly", 'format = "npz"\npath = "a.npz"'))).normal == 600
    np.savez(task.folder / "b.npz", x=x, y=y, names=["bad", "good"])
    assert look(load_task(task("image-anomaly", 'format = "npz"\npath = "b.npz"'))).normal == 300
    named = task("image-anomaly", 'format = "npz"\npath = "a.npz"\nnames = ["worn", "ok"]')
    assert look(load_task(named)).normal == 300


def test_samples_have_the_shape_that_the_task_gives_them(task):
    np.savez(task.folder / "a.npz", x=np.zeros((30, 256), np.uint8), y=np.arange(30) % 3)
    path = task("image-classification", 'format = "npz"\npath = "a.npz"\nshape = [16, 16]')
    assert look(load_task(path)).shape == (16, 16)


def test_what_a_training_refuses_is_refused(task, capsys):
    np.savez(task.folder / "a.npz", x=np.zeros((30, 16, 16), np.uint8), y=np.arange(30) % 3)
    data = 'format = "npz"\npath = "a.npz"'
    for teacher, line in (("trees", "they are grown for tables"), ("nonsense", "there is no family 'nonsense'")):
        path = task("image-classification", f'{data}\n[model]\nteacher = "{teacher}"')
        assert line in refused(capsys, path)
        path = task("image-classification", f'{data}\n[model]\nteacher = "{teacher}"\nteacher_factory = "mine:net"')
        assert "is not called" in told(capsys, path)["known"]["teacher"]


def test_histories_of_items_are_as_long_as_the_task_says(task):
    (task.folder / "a.csv").write_text("user,item,time\n" + "1,2,3\n" * 50, encoding="utf-8")
    path = task("recommendation", 'format = "csv"\npath = "a.csv"\nitem = "item"\nuser = "user"\nhistory = 20')
    assert look(load_task(path)).shape == (20,)


def test_networks_are_counted_where_macs_are_given(capsys):
    given = ("--kind", "tabular-regression", "--samples", 5000, "--macs", 1e6)
    assert "in 2 networks" in told(capsys, *given)["known"]["teacher"]
