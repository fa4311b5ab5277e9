"""How long each class of devices trains a workload, and what that takes: pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable

from cloud_trainer.advise.options import TrainingOption
from cloud_trainer.advise.units import in_bytes, in_dollars, in_joules, in_time, scaled, short
from cloud_trainer.advise.workload import Workload
from cloud_trainer.config import AdviseConfig
from cloud_trainer.hardware import DEVICES, TRAINING_SHARE, Device, hourly_cost, rate, training_seconds

BYTES_A_PARAMETER = 16.0
"""Weights, gradients and Adam's two moments in float32; in mixed precision 2 + 2 + 4 + 4 + 4 (Rajbhandari et al. 2020,
arXiv 1910.02054)."""
MACS_AN_ACTIVATION = 300.0  # rule: a ResNet-50 has 370, a small one 150
BASE_BYTES = 1e9  # Python, torch


def teacher_macs(work: Workload, device: Device | None = None) -> float:
    """Of its training, and of one answer to each sample for distillation."""
    return work.trained_on * work.teacher.work_on(device) * (3 * work.teacher_epochs + 1)


def student_macs(work: Workload, device: Device | None = None) -> float:
    """Of all its trainings."""
    return work.trained_on * 3 * work.student.work_on(device) * work.student_epochs * work.student_trainings


def total_macs(work: Workload, device: Device | None = None) -> float:
    """Of a whole training: forward and backward are three times the forward MACs (a MAC is two FLOPs; the backward pass
    computes two products for each of the forward pass), and the teacher answers each sample once for distillation. On a
    ``device`` depthwise networks count for more.

    >>> from cloud_trainer.advise.workload import Network
    >>> total_macs(Workload("", 10, "", Network(100, 1, ""), Network(10, 1, ""), teacher_epochs=2, student_epochs=3))
    7900.0
    """
    return teacher_macs(work, device) + student_macs(work, device)


def steps(work: Workload) -> float:
    """Updates of teachers and student."""
    epochs = work.teacher.count * work.teacher_epochs + work.student_epochs * work.student_trainings
    return max(1.0, work.trained_on / work.batch) * epochs


def memory_bytes(work: Workload, *, half: bool = False) -> float:
    """Parameters of a teacher with gradients and optimizer, activations of a batch with their gradients (``half``: in 2
    bytes each), the library."""
    one = work.teacher.scaled(1 / work.teacher.count, "")
    activations = 2 * (2.0 if half else 4.0) * work.batch * one.macs / MACS_AN_ACTIVATION
    return BYTES_A_PARAMETER * one.params + activations + BASE_BYTES


def training_options(work: Workload, demand: AdviseConfig, devices: Iterable[Device] = DEVICES) -> list[TrainingOption]:
    """One for each class that trains."""
    return [_option(work, demand, device) for device in devices if device.trains]


def _option(work: Workload, demand: AdviseConfig, device: Device) -> TrainingOption:
    macs, updates, need = total_macs(work, device), steps(work), memory_bytes(work, half=device.gpu)
    seconds = training_seconds(macs, updates, device)
    joules = seconds * device.load_w * device.overhead_of_site
    have = device.memory_gb * 1e9
    an_hour = hourly_cost(device, device.load_w, demand.price_per_kwh)
    dollars = seconds / 3600 * an_hour
    why_not = ""
    if need > have:
        why_not = f"needs {in_bytes(need)} of memory, has {in_bytes(have)}"
    elif seconds > 3600 * demand.train_hours:
        why_not = f"takes {in_time(seconds)}, more than {in_time(3600 * demand.train_hours)}"
    speed = rate(device, "fp16") if device.gpu else rate(device, "fp32", device.cores) * TRAINING_SHARE
    epochs = f"{short(work.teacher_epochs)} epochs"
    again = f" x {short(work.student_trainings)} trainings" if work.student_trainings != 1 else ""
    slower = device.separable != 1 and (work.teacher.separable or work.student.separable)
    who = "teachers" if work.teacher.count > 1 else "teacher"
    samples = f"{work.trained_on:,} samples" + (" (made-up anomalies and as many normal images)" if work.made else "")
    one = work.teacher.scaled(1 / work.teacher.count, "")
    of_one = " of a teacher" if work.teacher.count > 1 else ""
    lines = (
        (
            f"{who}: {samples} x {scaled(work.teacher.macs, 'MAC')} x (3 x {epochs} + 1)"
            f" = {scaled(teacher_macs(work), 'MAC')}"
        ),
        (
            f"student: {work.trained_on:,} samples x {scaled(work.student.macs, 'MAC')} x 3 x"
            f" {short(work.student_epochs)} epochs{again} = {scaled(student_macs(work), 'MAC')}"
        ),
        (
            f"time on {device.name}: {scaled(macs, 'MAC')}"
            + (f" (depthwise layers count {short(1 / device.separable)} times)" if slower else "")
            + f" / {scaled(speed, 'MAC/s')} + {short(updates)} steps x"
            f" {short(device.step_ms)} ms = {in_time(seconds)}"
        ),
        (
            f"the loader has to deliver {short(updates * work.batch / seconds)} samples/s"
            f" ({scaled(updates * work.batch / seconds * work.sample_bytes, 'B/s')} of raw samples)"
        ),
        f"energy: {in_time(seconds)} x {short(device.load_w)} W"
        + (f" x {device.overhead_of_site:g} (data centre)" if device.where == "cloud" else "")
        + f" = {in_joules(joules)}",
        f"cost: {short(seconds / 3600)} h x {in_dollars(an_hour)} an hour = {in_dollars(dollars)}",
        (
            f"memory: {scaled(one.params, 'parameters')}{of_one} x 16 B + activations of a"
            f" batch of {work.batch} + {in_bytes(BASE_BYTES)} = {in_bytes(need)}"
        ),
    )
    return TrainingOption(
        device.name, device.text, device.word, 1, seconds, joules, dollars, need, why_not, lines
    )  # fmt: skip
