"""The five inference steps as data: preprocess, encode, forward, decode, postprocess.

``forward`` is the variant in its backend; the other four are lists of operations. Each operation is a frozen Struct
that knows how to run on a batch, so the trainer (which fits them) and the device (which replays them) can't disagree.
What every operation keeps to is in :mod:`shared.pipeline.base`; ``docs/pipeline.md`` lists them all.
"""

from __future__ import annotations

from msgspec import Struct

from shared.pipeline.anomaly import AnomalyScore
from shared.pipeline.answers import Actions, Labels, Payload, Round, Units, Value
from shared.pipeline.bands import BandPower, Envelope
from shared.pipeline.boxes import Boxes
from shared.pipeline.branches import Concatenate
from shared.pipeline.channels import Magnitude, Rates
from shared.pipeline.colour import ChannelOrder, Grayscale
from shared.pipeline.columns import Choose, Combine, Parse
from shared.pipeline.forecasts import Inverse
from shared.pipeline.images import Crop, Pad, Resize
from shared.pipeline.joint import JointScore
from shared.pipeline.layout import AddChannel, Cast, Layout, Reshape
from shared.pipeline.moments import Calendar
from shared.pipeline.piecewise import Piecewise
from shared.pipeline.ranking import Rank
from shared.pipeline.recent import Recent
from shared.pipeline.scaling import Clip, Scale, Standardize
from shared.pipeline.scores import Argmax, Normalize, Sigmoid, Softmax, Threshold, TopK
from shared.pipeline.series import Difference, Lags, Rolling
from shared.pipeline.signals import Detrend, Resample, Window
from shared.pipeline.spectra import LogMel, Mfcc
from shared.pipeline.summary import Correlations, Summary
from shared.pipeline.tables import EmbeddingIndex, Impute, OneHot, Ordinal
from shared.pipeline.text import CleanText, HashedNgrams, Tokens

Preprocess = (
    # values
    Impute | Clip | Scale | Standardize
    # rows of columns, and windows that become rows
    | Parse | Calendar | Combine | Choose | Recent | Piecewise
    # images
    | Resize | Crop | Pad | Grayscale | ChannelOrder
    # sound and vibration
    | Resample | Window | Detrend | LogMel | Mfcc | BandPower | Envelope
    # time series
    | Lags | Difference | Rolling | Rates | Magnitude | Summary | Correlations
    # text
    | CleanText
    # several of these side by side
    | Concatenate
    # shapes and types, where a later operation needs another
    | AddChannel | Layout | Reshape | Cast
)  # fmt: skip
Encode = (
    OneHot | Ordinal | EmbeddingIndex | Tokens | HashedNgrams | Concatenate
    | AddChannel | Layout | Reshape | Cast
    # what was encoded may be scaled, too
    | Scale | Standardize | Clip | ChannelOrder | Choose | Piecewise
)  # fmt: skip
Decode = (
    Softmax | Sigmoid | Argmax | TopK | Threshold | Boxes | Inverse | AnomalyScore | JointScore | Normalize | Rank
)  # fmt: skip
Postprocess = Labels | TopK | Units | Round | Actions | Payload | Value


class Pipeline(Struct, frozen=True, forbid_unknown_fields=True):
    """Operations around ``forward``, in the order in which they run.

    ``preprocess`` and ``encode`` take and give one array with the batch first. ``decode`` and ``postprocess`` read and
    add named fields: the model's outputs are there by name (a classifier's: ``logits`` and ``embedding``) to begin
    with, and ``input``, the model's input, where an operation needs it (:func:`pipeline_needs_input`).
    """

    preprocess: tuple[Preprocess, ...] = ()
    encode: tuple[Encode, ...] = ()
    decode: tuple[Decode, ...] = ()
    postprocess: tuple[Postprocess, ...] = ()


def pipeline_needs_input(pipeline: Pipeline) -> bool:
    """Whether the fields must hold ``input``, the tensor that went into the model."""
    return any(operation.needs_input for operation in (*pipeline.decode, *pipeline.postprocess))


def pipeline_takes_missing(pipeline: Pipeline) -> bool:
    """Whether a sample may lack a number: an operation puts one there before anything else needs it, or every column
    of a row of text is one where nothing is a value, too."""
    for operation in (*pipeline.preprocess, *pipeline.encode):
        if isinstance(operation, Impute):
            return True
        if isinstance(operation, Parse) and len(operation.categories) + len(operation.times) == operation.width:
            return True
        if not isinstance(operation, _PASS_MISSING):
            return False
    return False


_PASS_MISSING = (Parse, Calendar, Combine, Choose, Recent)
"""Operations of which a missing number makes no more than missing numbers."""
