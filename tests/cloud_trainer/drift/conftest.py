"""Small tables with and without drift."""

import csv

import numpy as np
import pytest

from cloud_trainer.cli import main


def write_csv(path, columns, *, separator=",", header=True):
    """Columns (name -> sequence) as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator)
        if header:
            writer.writerow(columns)
        writer.writerows(zip(*(list(column) for column in columns.values()), strict=True))
    return path


def normal_table(n, seed, **shift):
    """Two numbers and a category, each row drawn alone; ``shift`` moves numbers."""
    rng = np.random.default_rng(seed)
    return {
        "temp": np.round(20 + 2 * rng.normal(size=n) + shift.get("temp", 0.0), 4),
        "hum": np.round(50 + 5 * rng.normal(size=n) + shift.get("hum", 0.0), 4),
        "line": rng.choice(["A", "B"], n, p=[0.7, 0.3]),
    }


def joined(*tables):
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


@pytest.fixture
def drift(tmp_path, monkeypatch, capsys):
    """Runs ``cloud-trainer drift`` in a directory of its own: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            code = main(["drift", *map(str, arguments)])
        except SystemExit as error:  # argparse
            code = error.code
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def files(tmp_path):
    """A reference, data like it, and data that moves after 1,000 rows."""
    reference = write_csv(tmp_path / "reference.csv", normal_table(1000, 1))
    same = write_csv(tmp_path / "same.csv", normal_table(2000, 2))
    moved = write_csv(tmp_path / "moved.csv", joined(normal_table(1000, 3), normal_table(2000, 4, temp=4.0)))
    return reference, same, moved
