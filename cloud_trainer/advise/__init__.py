"""Which hardware to train on and to infer on, with the arithmetic. No torch here."""

from __future__ import annotations

from cloud_trainer.advise.decide import Advice, BreakEven, advise
from cloud_trainer.advise.examples import EXAMPLES, example
from cloud_trainer.advise.facts import Facts, look
from cloud_trainer.advise.networks import counted
from cloud_trainer.advise.options import InferenceOption, TrainingOption
from cloud_trainer.advise.rules import networks_of, student_of, teachers_of
from cloud_trainer.advise.workload import Language, Network, Workload, made_of, of_task, train_share

__all__ = [
    "EXAMPLES",
    "Advice",
    "BreakEven",
    "Facts",
    "InferenceOption",
    "Language",
    "Network",
    "TrainingOption",
    "Workload",
    "advise",
    "counted",
    "example",
    "look",
    "made_of",
    "networks_of",
    "of_task",
    "student_of",
    "teachers_of",
    "train_share",
]
