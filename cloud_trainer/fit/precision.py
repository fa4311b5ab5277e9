"""What convolutions and dense layers compute in."""

from __future__ import annotations

from functools import lru_cache

import torch

from cloud_trainer.fit.plan import Plan, Precision

WORTH_MACS = 15_000_000
"""Of an answer, from which bf16 trains a network for pictures faster on a CPU that multiplies it: a ResNet of 10.8 M
MACs gains 6 %, of 18.7 M 1.7 times, of 30 M 1.6 times, of 56 M and more twice (Zen 4, batch 128, two cores)."""


def precision_of(plan: Plan, device: torch.device) -> torch.dtype:
    """What convolutions and dense layers compute in; weights, losses and what is exported stay float32."""
    if plan.precision == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[plan.precision]


def of_picture(wanted: Precision, macs: int) -> Precision:
    """``wanted``; where that is "auto" and nothing but this CPU can train, bf16 if it is worth it for pictures.

    >>> of_picture("fp32", 10**9)
    'fp32'
    """
    if wanted == "auto" and macs >= WORTH_MACS and not torch.cuda.is_available() and multiplies_bf16():
        return "bf16"
    return wanted


@lru_cache(maxsize=1)
def multiplies_bf16() -> bool:
    """Whether this CPU has instructions for it (AVX-512 BF16, AMX); others only imitate them, slowly."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
