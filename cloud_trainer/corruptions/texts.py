"""Texts (n,), of str."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cloud_trainer.corruptions.base import Corruption, Samples, level


def _each_word(x: Samples, share: float, rng: np.random.Generator, change: Callable[[str], str]) -> Samples:
    """Texts with ``change`` made to a share of the words; what becomes "" goes."""
    found = np.empty(len(x), object)
    for i, text in enumerate(x):
        words = str(text).split(" ")
        chosen = rng.random(len(words)) < share
        kept = [changed for word, hit in zip(words, chosen, strict=True) if (changed := change(word) if hit else word)]
        found[i] = " ".join(kept or words[:1])
    return found


def _typos(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del like

    def typo(word: str) -> str:
        if len(word) < 2:
            return word
        at = int(rng.integers(0, len(word) - 1))
        match rng.integers(0, 3):
            case 0:
                return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
            case 1:
                return word[:at] + word[at + 1 :]
            case _:
                return word[:at] + word[at] + word[at:]

    return _each_word(x, level(severity, 0.05, 0.1, 0.2, 0.35, 0.5), rng, typo)


def _dropped(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del like
    return _each_word(x, level(severity, 0.05, 0.1, 0.2, 0.35, 0.5), rng, lambda _: "")


def _case(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del like
    return _each_word(x, level(severity, 0.1, 0.25, 0.5, 0.75, 1.0), rng, str.swapcase)


CORRUPTIONS = (
    Corruption("typos", "a letter swapped, lost or doubled in 5 to 50 % of the words", _typos),
    Corruption("dropped words", "5 to 50 % of the words are gone", _dropped),
    Corruption("case", "large and small letters swapped in 10 to 100 % of the words", _case),
)
