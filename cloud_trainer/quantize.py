"""int8 for ONNX Runtime: static, quantize-dequantize pairs, weights signed and one scale for each output channel.

Activations are unsigned for x86, whose U8S8 instructions are the fast ones, and signed for ARM. TFLite's int8 is made
by the exporter's worker.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared.errors import ExportError, one_line

BATCH = 64


def calibration_samples(x: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """At most ``count`` rows of ``x`` (n, ...), in order: one of each of ``count`` equal stretches, chosen by ``seed``.
    What lies together in ``x``, old samples and new ones, is in them in proportion."""
    if len(x) <= count:
        return x
    edges = np.arange(count + 1) * len(x) // count
    chosen = np.random.default_rng([seed, 3]).integers(edges[:-1], edges[1:])
    rows: NDArray[np.float32] = x[chosen]
    return rows


def quantize_onnx(
    fp32: Path, int8: Path, samples: NDArray[np.float32], *, activations: Literal["uint8", "int8"], input_name: str
) -> None:
    """Write ``int8`` from ``fp32``; activation ranges are the smallest and largest values that ``samples`` cause.

    Raises:
        ExportError: the quantizer cannot do it.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
        def __init__(self) -> None:
            self._batches: Iterator[Any] = (samples[i : i + BATCH] for i in range(0, len(samples), BATCH))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {input_name: batch}

    try:
        with tempfile.TemporaryDirectory() as directory:
            prepared = Path(directory) / "prepared.onnx"
            quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(int8),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8 if activations == "uint8" else QuantType.QInt8,
            )
    except Exception as error:  # the quantizer raises whatever its passes raise
        logging.getLogger(__name__).debug("quantization failed", exc_info=True)
        raise ExportError(f"int8 quantization of {fp32.name} failed: {one_line(error, last=True)}") from error
