"""Three workloads to look at, from a spreadsheet to a language model."""

from __future__ import annotations

from cloud_trainer.advise.rules import student_of, teachers_of
from cloud_trainer.advise.workload import Language, Network, Workload, of_task
from cloud_trainer.config import AdviseConfig, DataConfig, ExportConfig, ModelConfig, TaskConfig, TrainingConfig
from shared.errors import UsageError

EXAMPLES = {
    "daily-sales": "five years of daily sales of 50 articles, forecast a week ahead once a day for each",
    "image-shop": "pictures of an online shop, 200,000 of 224 x 224, sorted into 300 categories",
    "llm-agent": "an agent on a language model of 70 billion parameters, fine-tuned on 20,000 conversations",
}


def example(name: str) -> tuple[Workload | Language, AdviseConfig]:
    """The workload and what is asked of it.

    Raises:
        UsageError: there is none of this name.
    """
    if name == "daily-sales":
        return _daily_sales()
    if name == "image-shop":
        return _image_shop()
    if name == "llm-agent":
        return _llm_agent()
    raise UsageError(f"--example {name!r}: there are " + ", ".join(EXAMPLES))


def _daily_sales() -> tuple[Workload, AdviseConfig]:
    data = DataConfig(format="csv", history=56, horizon=7)
    task = TaskConfig(name="daily-sales", kind="forecasting", data=data)
    samples = 50 * (5 * 365 - data.history - data.horizon + 1)
    teacher = teachers_of(task, (data.history, 6), data.horizon, samples)
    work = of_task(task, samples, EXAMPLES["daily-sales"], 4.0 * 56 * 6, teacher, student_of(teacher, task.model))
    return work, AdviseConfig(requests_per_second=50 / 86_400, latency_ms=1000, years=5)


def _image_shop() -> tuple[Workload, AdviseConfig]:
    task = TaskConfig(
        name="image-shop",
        kind="image-classification",
        data=DataConfig(format="image-folder"),
        model=ModelConfig(mac_share=0.1, ensemble=1),
        training=TrainingConfig(teacher_epochs=30, student_epochs=60),
        export=ExportConfig(),
    )
    teacher = Network(4.1e9, 25.6e6, "given: a ResNet-50 (He et al. 2016, arXiv 1512.03385)")
    student = Network(3.0e8, 3.5e6, "given: a MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381)", separable=True)
    work = of_task(task, 200_000, EXAMPLES["image-shop"], 224 * 224 * 3.0, teacher, student)
    return work, AdviseConfig(requests_per_second=20, latency_ms=100, years=3, where="cloud")


def _llm_agent() -> tuple[Language, AdviseConfig]:
    work = Language(
        title="llm-agent (language-model)",
        params=70e9,
        params_how="given",
        samples=20_000,
        samples_how=EXAMPLES["llm-agent"],
        sample_tokens=3000,
        epochs=3,
        prompt=3000,
        answer=400,
    )
    return work, AdviseConfig(requests_per_second=2, latency_ms=30_000, years=3, where="cloud")
