"""From raw samples to what a network reads: fits the release's :class:`Pipeline` and replays it for training.

The operations are the device's own (``shared/pipeline``), so training and serving can't disagree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.data import Dataset
from shared.errors import DataError
from shared.manifest import SampleSpec
from shared.pipeline.bind import run_arrays
from shared.pipeline.decode import Argmax, Softmax
from shared.pipeline.encode import AddChannel, Cast
from shared.pipeline.postprocess import Labels
from shared.pipeline.preprocess import Standardize
from shared.pipeline.spec import Pipeline

MIN_SIDE = 8  # the network halves the picture at least twice


def sample_spec(data: Dataset) -> SampleSpec:
    """What one sample of ``data`` looks like to ``Engine.infer``.

    Raises:
        DataError: the samples are no images (H, W) or (H, W, C) of at least 8 x 8.
    """
    shape = data.x.shape[1:]
    if len(shape) not in {2, 3} or min(shape[:2]) < MIN_SIDE or (len(shape) == 3 and shape[2] not in {1, 3, 4}):
        raise DataError(
            f"samples have shape {shape}; images are (H, W) or (H, W, C) with H and W at least "
            f"{MIN_SIDE} and C 1, 3 or 4"
        )
    return SampleSpec(dtype=str(data.x.dtype), shape=tuple(shape), kind="image")


def float_warning(x: NDArray[Any], values: tuple[float, float]) -> str | None:
    """What devices must keep to when ``x``, with the smallest and largest of its ``values``, is float: bytes say
    themselves how large they may be, floats of another scale are answered without an error, and wrongly."""
    if x.dtype.kind != "f":
        return None
    return f"x is float: devices must send {x.dtype} in the same range, found {values[0]:g} to {values[1]:g}"


def fit_pipeline(train: Dataset) -> Pipeline:
    """Standardize (fitted on ``train``: one mean for grey, one for each colour), layout, softmax, argmax, labels.

    Grey images (H, W) get a channel axis in front, (1, H, W). Colour stays (H, W, C): the network turns it itself,
    which costs a device less than a copy in numpy.
    """
    grey = train.x.ndim == 3
    return Pipeline(
        preprocess=(Standardize.fit(train.x, per_column=not grey),),
        encode=(AddChannel(axis=1), Cast("float32")) if grey else (Cast("float32"),),
        decode=(Softmax(), Argmax()),
        postprocess=(Labels(names=train.labels),),
    )


def encode(pipeline: Pipeline, x: NDArray[Any]) -> NDArray[np.float32]:
    """``x`` (n, *sample shape) through preprocess and encode -> (n, *input shape) float32."""
    return run_arrays(pipeline, x).astype(np.float32, copy=False)
