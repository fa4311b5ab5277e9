"""A kernel machine (scikit-learn's support vector machine with a Gaussian kernel) beside the networks and trees that
teach tables.

On a few hundred rows nothing is smoother (Cortes and Vapnik 1995; Drucker et al. 1997): it is wrong elsewhere than
networks and trees, and together they are a better teacher than each. It is never shipped.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

MOST_ROWS, TUNED_ON, FOLDS = 5000, 1000, 5
"""More rows take too long; strength and width are tuned by cross-validation on some of them."""
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
WIDTHS = (0.03, 0.1, 0.3, 1.0)
"""Of the kernel's exponent, over the number of inputs."""
SLACK = 0.1  # of a standard deviation: errors that regressions do not mind
ABSENT, LEAST = -30.0, 1e-4  # logit of a class that was not among the samples; least probability of another one


class Kernel(Struct, frozen=True, eq=False):
    """``machine``: fitted; ``classes`` (k,) that it tells apart, none: a regression. ``strength`` and ``width``: what
    was chosen; ``supports``: rows that it compares with."""

    machine: Any
    classes: tuple[int, ...]
    inputs: int
    outputs: int
    strength: float
    width: float
    supports: int

    @property
    def label(self) -> str:
        """For tables."""
        return f"kernel-c{self.strength:g}-g{self.width:.2g}"

    @property
    def macs(self) -> int:
        """Of an answer: a distance to each support."""
        return self.supports * (self.inputs + 1)

    @property
    def bytes(self) -> int:
        """Of the supports in float32."""
        return 4 * self.supports * (self.inputs + 1)

    def answers(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """(n, inputs) -> logits or numbers (n, outputs)."""
        x = np.asarray(x, np.float64)
        if not self.classes:
            return np.asarray(self.machine.predict(x), np.float32).reshape(len(x), 1)
        found = np.full((len(x), self.outputs), ABSENT, np.float32)
        found[:, list(self.classes)] = np.log(np.maximum(self.machine.predict_proba(x), LEAST))
        return found


def fit_kernel(x: NDArray[Any], y: NDArray[Any], *, outputs: int, known: Kernel | None = None) -> Kernel | None:
    """Of rows ``x`` (n, inputs) and classes ``y`` (n,) int64 below ``outputs``, or numbers (n, 1); with the strength
    and width of ``known``, or those that are best in cross-validation. ``None``: there are too many rows, missing
    values, several numbers to foretell, or too few rows of a class."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC, SVR

    numbers = y.dtype.kind == "f"
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    if len(x) > MOST_ROWS or not np.isfinite(x).all() or (numbers and (outputs != 1 or y.size != len(y))):
        return None
    y = y.reshape(len(y)) if numbers else y
    folds = FOLDS if numbers else int(min(FOLDS, np.unique(y, return_counts=True)[1].min()))
    if folds < 2 or len(x) < 2 * FOLDS or (not numbers and len(np.unique(y)) < 2):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rare classes in a fold, iterations
        if known is not None:
            strength, width = known.strength, known.width
        else:
            strength, width = _tuned(x, y, SVR(epsilon=SLACK) if numbers else SVC(), folds)
        if numbers:
            machine = SVR(C=strength, gamma=width, epsilon=SLACK).fit(x, y)
            return Kernel(machine, (), x.shape[1], 1, strength, width, len(machine.support_))
        machine = CalibratedClassifierCV(SVC(C=strength, gamma=width), ensemble=False, cv=folds).fit(x, y)
    supports = len(machine.calibrated_classifiers_[0].estimator.support_)
    classes = tuple(int(one) for one in machine.classes_)
    return Kernel(machine, classes, x.shape[1], outputs, strength, width, supports)


def _some(y: NDArray[Any], folds: int) -> NDArray[np.intp]:
    """Indices of at most about ``TUNED_ON`` rows; of each class ``folds`` at least, else as frequent as they are."""
    order = np.random.default_rng(0).permutation(len(y))
    if y.dtype.kind == "f" or len(y) <= TUNED_ON:
        return order[:TUNED_ON]
    classes = [order[y[order] == one] for one in np.unique(y)]
    return np.concatenate([rows[: max(folds, round(len(rows) * TUNED_ON / len(y)))] for rows in classes])


def _tuned(x: NDArray[Any], y: NDArray[Any], machine: Any, folds: int) -> tuple[float, float]:
    from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold

    chosen = _some(y, folds)
    kind = KFold if y.dtype.kind == "f" else StratifiedKFold
    grid = {"C": list(STRENGTHS), "gamma": [width / x.shape[1] for width in WIDTHS]}
    best = GridSearchCV(machine, grid, cv=kind(folds, shuffle=True, random_state=0)).fit(x[chosen], y[chosen])
    return float(best.best_params_["C"]), float(best.best_params_["gamma"])
