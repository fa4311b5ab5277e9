"""An agent alone is light, and a stranger called ``shared`` is recognized."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "cloud_trainer", "pandas", "onnx", "sqlalchemy", "sklearn", "scipy", "matplotlib", "starlette")


def python(code, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def loaded_by(statement):
    result = python(f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))")
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


MODULES = [
    "edge_agent",
    *(
        "edge_agent." + ".".join(path.relative_to(ROOT / "edge_agent").with_suffix("").parts)
        for path in sorted((ROOT / "edge_agent").rglob("*.py"))
        if path.name != "__init__.py"
    ),
]


def test_no_module_of_the_agent_brings_the_trainers_libraries():
    loaded = loaded_by("import " + ", ".join(MODULES))
    assert loaded & set(HEAVY) == set()


def test_naming_the_package_loads_no_runtime():
    loaded = loaded_by("import edge_agent")
    assert loaded & {*HEAVY, "numpy", "onnxruntime", "ai_edge_litert", "tuf", "paho"} == set()


def test_the_engine_loads_the_runtime_of_its_variant_only(release):
    run = f"from edge_agent import Engine; Engine.load({str(release)!r}, variant='fp32-onnx')"
    loaded = loaded_by(run)
    assert "onnxruntime" in loaded
    assert loaded & {*HEAVY, "ai_edge_litert", "tuf", "paho"} == set()
    assert "onnxruntime" not in loaded_by(run.replace("fp32-onnx", "fp32-litert"))


LATER = (
    *("tuf", "securesystemslib", "urllib3", "asyncio", "uvloop", "multiprocessing", "concurrent", "unittest"),
    "importlib.metadata",
    *("numpy.ma", "numpy.random", "numpy.testing", "numpy.f2py", "numpy.fft", "numpy.polynomial", "numpy.ctypeslib"),
)
"""What costs a device some 0.2 to 3 MiB each, and only updates, HTTP or the trainer need."""


def modules_after(statement):
    result = python(f"{statement}\nimport sys\nprint(*sorted(sys.modules))")
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_an_engine_that_watches_has_loaded_nothing_for_other_work(release):
    run = f"""
import numpy as np
from edge_agent import Engine
from pathlib import Path
path = next(Path({str(release)!r}).rglob("*.onnx"))
engine = Engine.load(path, learn=50)
sample = np.zeros(engine.manifest.sample.shape, engine.manifest.sample.dtype)
for turn in range(200):
    engine.infer(sample + sample.dtype.type(turn % 7))
assert engine.monitor.ready
engine.monitor.report()
engine.health.percentiles()
"""
    assert modules_after(run) & {*LATER, "email", "ssl", "sqlite3", "paho", "argparse"} == set()


def test_the_agent_of_a_fleet_has_loaded_nothing_for_an_update_that_has_not_come():
    run = "import edge_agent.commands.run, edge_agent.service.loop; from edge_agent.updates import Updater"
    assert modules_after(run) & set(LATER) == set()


@pytest.mark.parametrize("kind", ["package", "module"])
def test_a_stranger_called_shared_beside_a_script_is_named(tmp_path, kind):
    stranger = tmp_path / ("shared.py" if kind == "module" else "shared/__init__.py")
    stranger.parent.mkdir(exist_ok=True)
    stranger.touch()
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nsys.path.append({str(ROOT)!r})\nimport edge_agent\n")
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: a folder or module called 'shared' at ")
    assert str(stranger) in last
    assert "rename it or start Python from another folder" in last


def test_a_bare_folder_called_shared_is_named_where_it_hides_the_real_one(tmp_path):
    (tmp_path / "shared").mkdir()
    # a folder without __init__.py loses against a real package anywhere on the path, but not against a missing one
    code = f"""
import importlib.machinery as machinery, sys
sys.path = [{str(tmp_path)!r}, *(p for p in sys.path if p not in ('', {str(ROOT)!r}))]
sys.meta_path[:] = [machinery.BuiltinImporter, machinery.FrozenImporter, machinery.PathFinder]
import shared
sys.path.append({str(ROOT)!r})
import edge_agent
"""
    result = python(code, cwd=tmp_path)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: a folder or module called 'shared' at ")
    assert str(tmp_path) in last
