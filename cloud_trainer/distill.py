"""A student learns from its teacher: Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network"."""

from __future__ import annotations

from torch import Tensor, nn

from cloud_trainer.config import DistillConfig
from cloud_trainer.fit import Loss


def distillation_loss(teacher_logits: Tensor, config: DistillConfig) -> Loss:
    """The loss of a student whose training row ``i`` got ``teacher_logits[i]`` from the teacher.

    ``w * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - w) * cross_entropy(student, y)``; the factor
    ``T^2`` keeps the size of the gradients independent of the temperature (section 2 of the paper).
    """
    temperature, weight = config.temperature, config.teacher_weight
    soft = (teacher_logits / temperature).log_softmax(1)

    def loss(logits: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        student = (logits / temperature).log_softmax(1)
        divergence = nn.functional.kl_div(student, soft[rows], reduction="batchmean", log_target=True)
        return weight * temperature**2 * divergence + (1 - weight) * nn.functional.cross_entropy(logits, y)

    return loss
