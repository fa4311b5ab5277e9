"""One data set of ``scripts/bench/trainer``: its task file, the baseline on its splits, the training, the row."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from trainer_baselines import fit, score
from trainer_data import LIMITS, Case
from trainer_speed import answer_times
from trainer_table import Row, slug

from cloud_trainer.config import TaskConfig, load_task
from cloud_trainer.data import load_splits
from shared.errors import SanderlingError, one_line
from shared.files import write_atomic


def task_of(case: Case, data: Path, work: Path, seed: int = 0) -> TaskConfig:
    """The task file, written into ``work`` and read as any user's is."""
    text = f"""name = "{slug(case.name)}"
kind = "{case.kind}"
seed = {seed}

[data]
format = "python"
factory = "trainer_data:{case.name}"
path = "{data.resolve()}"
{case.options}
"""
    if "[distill]" not in case.options:
        text += "\n[distill]\ncompare = true\n"
    path = place(case, work, seed) / "task.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.encode())
    return load_task(path)


def place(case: Case, work: Path, seed: int) -> Path:
    """Where its task and release are."""
    return work / (slug(case.name) + (f"-{seed}" if seed else ""))


def run(case: Case, data: Path, work: Path, *, train: bool, tell: Callable[[str], None], seed: int = 0) -> Row:
    """The baseline, and with ``train`` the trainer too; a training that fails is a row that says why."""
    task = task_of(case, data, work, seed)
    splits = load_splits(task)
    tell(f"{case.name}: baseline")
    baseline = fit(case.kind, splits, work / "baselines", case.name)
    row = Row(
        name=case.name,
        kind=case.kind,
        metric=case.metric,
        tested=len(splits.test),
        baseline=score(case.kind, baseline.answers, splits.test.y),
        baseline_model=baseline.model,
        baseline_seconds=baseline.seconds,
        failure="" if train else "not asked for",
        seed=seed,
    )
    if not train:
        return row
    tell(f"{case.name}: training; {baseline.model} has {100 * row.baseline:.2f}")
    out = place(case, work, seed) / "release"
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(out.with_name(f"{out.name}.work"), ignore_errors=True)
    try:
        return _trained(row, task, out, tell)
    except (SanderlingError, ModuleNotFoundError, AssertionError, ValueError, TypeError, RuntimeError) as error:
        tell(f"{case.name}: {one_line(error)}")
        return _changed(row, failure=f"{type(error).__name__}: {one_line(error)}")


def _trained(row: Row, task: TaskConfig, out: Path, tell: Callable[[str], None]) -> Row:
    from cloud_trainer.training import train_release

    def progress(stage: str, share: float, text: str) -> None:
        tell(f"{row.name}: {share:.0%} {stage} {text}")

    trained = train_release(task, out, version=1, progress=progress)
    variants = {
        one.id: (float(next(iter(one.quality.values()))), one.file.bytes / 1024) for one in trained.manifest.variants
    }
    timed = row.name in LIMITS
    if timed:
        tell(f"{row.name}: timing its variants")
    return _changed(
        row,
        times=answer_times(out) if timed else {},
        scores=trained.scores,
        macs=trained.macs,
        variants=variants,
        left_out=trained.left_out,
        seconds=trained.seconds,
        comparison=trained.comparison,
    )


def _changed(row: Row, **fields: object) -> Row:
    import msgspec

    return msgspec.structs.replace(row, **fields)
