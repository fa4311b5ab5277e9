"""The examples of docs/drift.md run, and print what the page says."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[3] / "docs" / "drift.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_api_prints_what_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "".join(block for block in BLOCKS if "write_csv" not in block and "january.csv" not in block)
    expected = [comment.split(";")[0].strip() for comment in re.findall(r"^ *print\(.*\) +# (.*)$", code, re.MULTILINE)]
    exec(compile(code, "docs/drift.md", "exec"), {})
    assert len(expected) >= 9
    assert capsys.readouterr().out.splitlines() == expected


def test_the_command_prints_what_the_page_says(tmp_path, drift):
    exec(compile(BLOCKS[0], "docs/drift.md", "exec"), {})
    shown = PAGE.split("$ cloud-trainer drift january.csv new.csv --time when --independent\n")[1].split("```")[0]
    code, out, error = drift("january.csv", "new.csv", "--time", "when", "--independent")
    assert code == 0
    assert sorted((out + error).splitlines()) == sorted(shown.splitlines())


def test_every_option_is_on_the_page(drift):
    _, out, _ = drift("--help")
    for option in set(re.findall(r"--[a-z-]+", out.split("options:")[1])) - {"--help"}:
        assert f"`{option}" in PAGE, option
