"""``edge-agent``: what runs on the device."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import edge_agent
from shared import cli

COMMANDS = {
    "enroll": ("edge_agent.commands.enroll", "take an enrolment file and prepare this device"),
    "run": ("edge_agent.commands.run", "run the agent: source, model, drift, MQTT, updates"),
    "infer": ("edge_agent.commands.infer", "answer the samples of a file and stop"),
    "bench": ("edge_agent.commands.bench", "measure a release or a bare model file on this device"),
    "select": ("edge_agent.commands.select", "measure the variants here and say which is best, and why"),
    "top": ("edge_agent.commands.top", "watch the agent live: rate, latency, answers, drift"),
    "doctor": ("edge_agent.commands.doctor", "check this device and say what is missing"),
    "status": ("edge_agent.commands.status", "what the agent with this state directory is doing"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return cli.main(
        "edge-agent",
        "Runs Sanderling releases on this device, watches for drift, reports over MQTT and updates itself.",
        COMMANDS,
        arguments,
        version=edge_agent.__version__,
    )


if __name__ == "__main__":
    sys.exit(main())
