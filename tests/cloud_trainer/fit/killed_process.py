"""Trains in a child that is left alone, then in children that are killed at random moments until one gets to the end.

python killed_process.py DIRECTORY  ->  [{"kills": 0, "weights": sha256, "curve": ...}, {"kills": 7, ...}] on stdout
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from cloud_trainer import checkpoints
from cloud_trainer.distillation import teach
from cloud_trainer.fit import Plan, train
from cloud_trainer.objectives import Classes
from tests.cloud_trainer.fit.samples import Dropped, noisy, stripes


def training(checkpoint: Path | None) -> dict[str, object]:
    data, model = stripes(128), Dropped()
    plan = Plan(
        6, 16, 1e-2, 1e-4, seed=5, patience=5, clip_norm=5.0, precision="fp16", device="cpu", checkpoint_seconds=1e-6
    )
    teaching = teach([Dropped(seed=3)], data.x, feature_weight=0.5)
    curve = train(
        model,
        data,
        stripes(64, 1),
        plan,
        objective=Classes(4),
        teaching=teaching,
        augment=noisy,
        checkpoint=checkpoint,
    )
    figures = [curve.train_loss, curve.validation_score, curve.best_epoch]
    return {"weights": checkpoints.digest(model.state_dict().values()), "curve": figures}


def lives(checkpoint: Path, chance: random.Random | None, whole: float = 0.0) -> dict[str, object]:
    """Train in processes that live for some of the ``whole`` time that it takes, a little longer each."""
    kills = 0
    while True:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.write(writing, json.dumps(training(checkpoint)).encode())
            os._exit(0)
        os.close(writing)
        if chance is not None:
            time.sleep(chance.uniform(0.05, 0.3) * whole * 1.1**kills)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        if text:
            return {"kills": kills, **json.loads(text)}
        kills += 1


def main() -> int:
    torch.set_num_threads(1)
    training(None)  # what torch imports when it is first needed; the children have it then
    directory = Path(sys.argv[1])
    began = time.monotonic()
    whole = lives(directory / "whole", None)
    seconds = time.monotonic() - began
    print(json.dumps([whole, lives(directory / "torn", random.Random(1), seconds)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
