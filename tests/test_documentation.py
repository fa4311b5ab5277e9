"""docs/configuration.md names every key with its default, and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_trainer import config as trainer
from edge_agent import config as agent
from shared.enrolment import BrokerAddress
from shared.manifest import DriftPolicy

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
SECTIONS: dict[str, list[type[msgspec.Struct]]] = {
    "agent.toml": [
        agent.AgentConfig,
        agent.CommandSource,
        agent.NpzSource,
        agent.StdinSource,
        agent.ReplaySource,
        agent.DirectorySource,
        agent.MqttSource,
        agent.CameraSource,
        agent.PythonSource,
        agent.FileSink,
        agent.StdoutSink,
        agent.PredictionSink,
        agent.WebhookSink,
        agent.PythonSink,
        agent.SelectionConfig,
        agent.ReportConfig,
        agent.OutboxConfig,
        agent.SamplesConfig,
        agent.FeedbackConfig,
        agent.DriftConfig,
        agent.SteppingConfig,
        agent.SchedulerConfig,
        agent.HttpConfig,
    ],
    "task.toml": [
        trainer.TaskConfig,
        trainer.DataConfig,
        trainer.FeatureConfig,
        trainer.ModelConfig,
        trainer.TrainingConfig,
        trainer.DistillConfig,
        trainer.ExportConfig,
        trainer.AdviseConfig,
        DriftPolicy,
        trainer.FleetPolicy,
        trainer.RetrainConfig,
        trainer.RolloutConfig,
    ],
    "controller.toml": [trainer.ControllerConfig, BrokerAddress],
}


def expected(struct: type[msgspec.Struct]) -> list[tuple[str, str]]:
    """(key, default as TOML) of every field that is no table of its own."""
    found = []
    for field in msgspec.structs.fields(struct):
        default: Any = field.default
        if isinstance(default, msgspec.Struct) or default == () or field.name in {"source", "sinks"}:
            continue
        if field.name in {"broker", "data", "scheduler", "http"}:
            continue  # tables
        if field.required:
            found.append((field.name, "required"))
        elif default is None:
            found.append((field.name, "none"))
        else:
            found.append((field.name, f"`{json.dumps(default)}`"))
    return found


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_is_documented_with_its_default_and_no_other_is(name: str) -> None:
    section = PAGE.split(f"## {name}")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    keyed = [row[-3:-1] for row in rows if re.fullmatch(r"`[a-z_0-9]+`", row[-3])]
    documented = sorted((key.strip("`"), default) for key, default in keyed if default)
    assert documented == sorted(pair for struct in SECTIONS[name] for pair in expected(struct))


def test_the_readme_links_only_to_files_that_exist() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
