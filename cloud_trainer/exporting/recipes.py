"""Which files a student becomes: a decision without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

ARM = ("aarch64", "arm64")
X86 = ("x86_64", "AMD64")
Scheme = Literal["float", "static", "static-signed", "static-reduced", "dynamic", "fp16", "weight8", "weight4"]
SUFFIX = {"onnxruntime": "onnx", "litert": "tflite"}


class Recipe(Struct, frozen=True):
    """One file. ``scheme``: how its numbers are made; ``meant_for``: machine architectures, none: any."""

    id: str
    runtime: str
    precision: str
    scheme: Scheme
    meant_for: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Its name in ``variants/``."""
        stem = self.id.removesuffix("-onnx").removesuffix("-litert")
        return f"{stem}.{SUFFIX[self.runtime]}"


def recipes(precisions: Sequence[str], runtime: str, *, transformer: bool) -> tuple[Recipe, ...]:
    """Every file for ``runtime``, fp32 first.

    int8 of a CNN or MLP is static; ONNX Runtime gets one for x86 and one for ARM. int8 of a transformer is dynamic in
    both runtimes: static ranges make it both slower and worse.

    >>> [one.id for one in recipes(("int8",), "onnxruntime", transformer=False)]
    ['fp32-onnx', 'int8-onnx', 'int8-arm-onnx']
    >>> [(one.id, one.scheme) for one in recipes(("int8", "weight4"), "litert", transformer=True)]
    [('fp32-litert', 'float'), ('int8-litert', 'dynamic'), ('weight4-litert', 'weight4')]
    """
    short = "onnx" if runtime == "onnxruntime" else "litert"
    made = [Recipe(f"fp32-{short}", runtime, "fp32", "float")]
    for precision in precisions:
        if precision == "int8-reduced":
            if runtime == "onnxruntime" and not transformer:
                made.append(Recipe("int8-reduced-onnx", runtime, "int8", "static-reduced", X86))
        elif precision != "int8":
            schemes: dict[str, Scheme] = {"fp16": "fp16", "weight8": "weight8", "weight4": "weight4"}
            made.append(Recipe(f"{precision}-{short}", runtime, precision, schemes[precision]))
        elif transformer:
            made.append(Recipe(f"int8-{short}", runtime, "int8", "dynamic"))
        else:
            made.append(Recipe(f"int8-{short}", runtime, "int8", "static"))
            if runtime == "onnxruntime":
                made.append(Recipe("int8-arm-onnx", runtime, "int8", "static-signed", ARM))
    return tuple(made)
