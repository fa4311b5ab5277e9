"""``cloud-trainer``: what runs beside the data and the fleet's broker."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import cloud_trainer
from shared import cli

COMMANDS = {
    "init": ("cloud_trainer.commands.init", "write a commented task.toml to begin with"),
    "train": ("cloud_trainer.commands.train", "data to release: teacher, student, variants, profile"),
    "package": ("cloud_trainer.commands.package", "wrap model files that exist already into a release"),
    "drift": ("cloud_trainer.commands.drift", "compare a table with a reference: what moved, when, how surely"),
    "advise": ("cloud_trainer.commands.advise", "which hardware to train on and to infer on, with the arithmetic"),
    "fleet init": ("cloud_trainer.commands.fleet_init", "make a fleet: keys, root of trust, empty repository"),
    "fleet enroll": ("cloud_trainer.commands.fleet_enroll", "write the enrolment file of one device"),
    "publish": ("cloud_trainer.commands.publish", "sign a release and add it to the fleet's repository"),
    "serve": ("cloud_trainer.commands.serve", "run the controller and serve the repository"),
    "demo": ("cloud_trainer.commands.demo", "the whole loop on this machine, in under two minutes"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return cli.main(
        "cloud-trainer",
        "Turns data into signed releases of small models, and a fleet's drift into better ones.",
        COMMANDS,
        arguments,
        version=cloud_trainer.__version__,
    )


if __name__ == "__main__":
    sys.exit(main())
