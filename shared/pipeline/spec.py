"""The five inference steps as data: preprocess, encode, forward, decode, postprocess.

``forward`` is the variant in its backend; the other four are lists of operations. Each operation is a frozen Struct
that knows how to run on a batch, so the trainer (which fits them) and the device (which replays them) can't disagree.

Invariants, held by ``tests/shared/pipeline``:

1. Operations are pure: same batch in, same batch out; the input is never written to.
2. Row ``i`` of the answer depends on row ``i`` of the batch alone, so a batch and its rows one by one agree exactly.
3. ``to JSON → from JSON`` gives an equal operation.
"""

from __future__ import annotations

from msgspec import Struct

from shared.pipeline.decode import Argmax, Softmax
from shared.pipeline.encode import AddChannel, Cast
from shared.pipeline.postprocess import Labels, TopK
from shared.pipeline.preprocess import Clip, Resize, Scale, Standardize

Preprocess = Scale | Standardize | Clip | Resize
Encode = AddChannel | Cast
Decode = Softmax | Argmax
Postprocess = Labels | TopK


class Pipeline(Struct, frozen=True, forbid_unknown_fields=True):
    """Operations around ``forward``, in the order in which they run.

    ``preprocess`` and ``encode`` take and give one array with the batch first. ``decode`` and ``postprocess`` read and
    add named fields: the model's outputs are there as ``logits`` and ``embedding`` to begin with.
    """

    preprocess: tuple[Preprocess, ...] = ()
    encode: tuple[Encode, ...] = ()
    decode: tuple[Decode, ...] = ()
    postprocess: tuple[Postprocess, ...] = ()
