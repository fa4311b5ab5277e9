"""One's own network: ``module:function``, called with the shape of a sample and the number of outputs.

    def network(input, outputs):                     # mine.py;  model.student_factory = "mine:network"
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, outputs))

It may answer with (answer, embedding), or with the answer alone: the embedding is then what goes into the last dense
layer, or the answer itself where the network does not end in one.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cloud_trainer.models.base import Architecture
from shared.errors import UsageError, one_line


class Custom(Architecture, frozen=True, kw_only=True, tag="custom"):
    """``factory``: ``module:function``. Width and depth are the function's affair."""

    factory: str
    width: int = 1
    max_width: ClassVar[int] = 1
    max_depth: ClassVar[int] = 1

    @property
    def label(self) -> str:
        """``custom-`` and the function's name."""
        name = self.factory.rpartition(":")[2].lower().replace("_", "-")
        return "custom-" + "".join(c for c in name if c.isascii() and (c.isalnum() or c == "-"))

    def network(self) -> nn.Module:
        """What the function gives, if it is right.

        Raises:
            UsageError: it cannot be imported, fails, or gives something else; in one line that says what.
        """
        model = _call(self.factory, self.input, self.outputs)
        found = _try(self, model)
        if isinstance(found, Tensor):
            return WithEmbedding(model, self.sample(2))
        return model


class CustomTokens(Custom, frozen=True, kw_only=True, tag="custom-tokens"):
    """The same, of token ids."""

    tokens: ClassVar[bool] = True


def custom(factory: str, input: tuple[int, ...], outputs: int, *, tokens: bool = False) -> Custom:  # noqa: A002
    """One's own network as an architecture, tried once.

    Raises:
        UsageError: see :meth:`Custom.network`.
    """
    architecture = (CustomTokens if tokens else Custom)(input=tuple(input), outputs=outputs, factory=factory)
    with torch.random.fork_rng(devices=[]):
        architecture.network()
    return architecture


class Tap(nn.Module):
    """A layer that keeps what goes into it until it is asked for."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """As the layer."""
        self.seen.append(x)
        y: Tensor = self.layer(x)
        return y


class WithEmbedding(nn.Module):
    """A network that answers alone, and what goes into its last dense layer (n, e) beside it."""

    def __init__(self, model: nn.Module, sample: Tensor) -> None:
        super().__init__()
        self.model = model
        self.tap: Tap | None = None
        name = _last_dense(model, sample)
        if name is not None:
            parent, _, child = name.rpartition(".")
            self.tap = Tap(model.get_submodule(name))
            setattr(model.get_submodule(parent), child, self.tap)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, *input) -> answer and embedding."""
        answer = self.model(x)
        return answer, answer if self.tap is None else self.tap.seen.pop()


def _last_dense(model: nn.Module, sample: Tensor) -> str | None:
    """The dense layer whose output is the answer; it must have run once, on one row a sample."""
    runs: list[tuple[str, Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda _, x, y, name=name: runs.append((name, x[0], y)))
        for name, module in model.named_modules()
        if name and isinstance(module, nn.Linear)
    ]
    try:
        with torch.no_grad():
            answer = model.eval()(sample)
    finally:
        model.train()
        for handle in handles:
            handle.remove()
    if not runs or runs[-1][2] is not answer or runs[-1][1].ndim != 2:
        return None
    name = runs[-1][0]
    return name if [run[0] for run in runs].count(name) == 1 else None


def _call(factory: str, input: tuple[int, ...], outputs: int) -> nn.Module:  # noqa: A002
    module, colon, function = factory.partition(":")
    if not colon or not module or not function:
        raise UsageError(f"{factory!r} names no function; expected module:function")
    here = str(Path.cwd())
    sys.path.insert(0, here)  # a file beside the task is found, as with python -m
    try:
        make: Any = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # whatever the user's file raises at import
        raise UsageError(f"{factory}: {module} cannot be imported: {one_line(error)}") from error
    finally:
        sys.path.remove(here)
    if not callable(make):
        raise UsageError(f"{factory}: {module} has no function {function}")
    try:
        model = make(input, outputs)
    except Exception as error:
        raise UsageError(f"{factory}({input}, {outputs}) failed: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"{factory} gave a {type(model).__name__}; expected a torch.nn.Module")
    return model


def _try(architecture: Custom, model: nn.Module) -> Any:
    sample = architecture.sample(2)
    try:
        with torch.no_grad():
            found = model.eval()(sample)
    except Exception as error:
        raise UsageError(
            f"{architecture.factory}: its network fails on a batch {tuple(sample.shape)}: {one_line(error)}"
        ) from error
    finally:
        model.train()
    answer, embedding = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(answer, Tensor) or tuple(answer.shape) != (2, architecture.outputs):
        what = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise UsageError(
            f"{architecture.factory}: its network answers a batch of 2 with {what}; "
            f"expected (2, {architecture.outputs})"
        )
    if embedding is not None and (not isinstance(embedding, Tensor) or embedding.ndim != 2 or len(embedding) != 2):
        raise UsageError(f"{architecture.factory}: its network's second output must be an embedding (n, e)")
    return found
