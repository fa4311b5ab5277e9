"""Smaller numbers for trained networks: int8, fp16, weights of 8 and 4 bits; what they cost in agreement and in score;
and repair where that is too much. One purpose a file:

- ``calibration`` which samples ranges are found with, ``ranges`` how ranges are chosen from what tensors held;
- ``onnx_static``, ``onnx_weights`` the files of ONNX Runtime (TFLite's are made by ``export/tflite_worker.py``);
- ``agreement`` how far a file's answers are from the network's;
- ``qat``, ``sensitivity``, ``repair`` when int8 misses its gate; ``prune`` channels that are cut off for good.
"""

from cloud_trainer.quantization.calibration import calibration_samples
from cloud_trainer.quantization.onnx_static import quantize_onnx

__all__ = ["calibration_samples", "quantize_onnx"]
