"""Gradient-boosted trees for tables (scikit-learn's histogram version; Ke et al. 2017, LightGBM), within a budget.

1. Answers are raw scores: a logit for each class (of two classes the first one's is 0), or the numbers themselves;
   never probabilities, for the pipeline has a softmax of its own.
2. The ONNX file takes the same branches as scikit-learn does for float32 samples: thresholds are rounded down to
   float32, which changes no comparison. Missing values (NaN) go where they went in training.
3. An operation is one comparison, or one leaf that is added: what a tree's "MACs" are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.models.sizes import Limits
from shared.errors import TrainingError
from shared.files import write_atomic

NODE_BYTES = 36  # of the ONNX file, about, for each node
ABSENT = -30.0  # logit of a class that was not among the samples
CHECKS = 24  # of the score while trees are added

Score = Callable[[NDArray[Any], NDArray[Any]], float]
"""(answers (n, outputs), y) -> how good, higher better: ``Objective.score``."""


class TreePlan(Struct, frozen=True):
    """What is tried: every number of leaves with as many rounds as pay, at most ``rounds``."""

    leaves: tuple[int, ...] = (7, 15, 31)
    rounds: int = 300
    learning_rate: float = 0.1
    l2: float = 1.0
    samples_in_leaf: int = 20


TEACHING = TreePlan(leaves=(15, 31, 63), rounds=600, learning_rate=0.06)
"""Of trees that only teach: larger and slower than a device would want."""


class Node(Struct, frozen=True):
    """``feature`` < 0: a leaf that adds ``value``. Else: ``x[feature] <= threshold`` goes to ``left``, NaN too where
    ``missing_left``."""

    feature: int
    threshold: float
    left: int
    right: int
    missing_left: bool
    value: float


class Tree(Struct, frozen=True):
    """``output``: which one it adds to. ``operations``: of the mean training sample."""

    output: int
    nodes: tuple[Node, ...]
    operations: float


class Trees(Struct, frozen=True):
    """A fitted ensemble: ``base`` (outputs,) and what the trees add. ``leaves`` and ``rounds``: what was chosen."""

    inputs: int
    base: tuple[float, ...]
    trees: tuple[Tree, ...]
    leaves: int
    rounds: int

    @property
    def label(self) -> str:
        """For tables and file names."""
        return f"trees-l{self.leaves}-n{self.rounds}"

    @property
    def macs(self) -> int:
        """Operations for an answer, of the mean training sample."""
        return round(sum(tree.operations for tree in self.trees))

    @property
    def bytes(self) -> int:
        """Of the ONNX file, about."""
        return NODE_BYTES * sum(len(tree.nodes) for tree in self.trees)

    def answers(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """(n, inputs) -> (n, outputs)."""
        return _added(np.tile(np.asarray(self.base), (len(x), 1)), self.trees, np.asarray(x, np.float32)).astype(
            np.float32
        )


def fit_trees(
    x: NDArray[Any],
    y: NDArray[Any],
    validation: tuple[NDArray[Any], NDArray[Any]],
    *,
    outputs: int,
    score: Score,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    plan: TreePlan = TreePlan(),  # noqa: B008
    weights: NDArray[Any] | None = None,
    seed: int = 0,
) -> Trees:
    """The ensemble with the best score on ``validation`` within ``limits``; of two that are equally good, the smaller.

    ``x`` (n, inputs), NaN where a value is missing; ``y`` (n,) int64 classes below ``outputs``, or float (n,) or
    (n, outputs). ``weights`` (n,) of the samples.

    Raises:
        TrainingError: there is one class only, or not a single tree fits.
    """
    x, held_out = np.asarray(x, np.float32), np.asarray(validation[0], np.float32)
    best: tuple[float, int, Trees] | None = None
    for leaves in plan.leaves:
        boosters = _boost(x, y, outputs, leaves, plan, weights, seed)
        answers, known = np.zeros((0, outputs)), 0
        for trees in _growing(boosters, x.shape[1], outputs, leaves, plan.rounds):
            if not limits.allow(trees.macs, trees.bytes):
                break
            answers = answers if known else np.tile(np.asarray(trees.base), (len(held_out), 1))
            answers, known = _added(answers, trees.trees[known:], held_out), len(trees.trees)
            found = (score(answers.astype(np.float32), validation[1]), -trees.macs, trees)
            if best is None or found[:2] > best[:2]:
                best = found
    if best is None:
        raise TrainingError(f"no tree fits into {limits.macs or 'any'} operations and {limits.bytes or 'any'} bytes")
    return best[2]


def refit_trees(trees: Trees, x: NDArray[Any], y: NDArray[Any], *, plan: TreePlan = TEACHING, seed: int = 0) -> Trees:
    """As many rounds and leaves as ``trees`` have, learned from more samples: those that chose how many, too."""
    x, outputs = np.asarray(x, np.float32), len(trees.base)
    plan = msgspec.structs.replace(plan, rounds=trees.rounds)
    boosters = _boost(x, y, outputs, trees.leaves, plan, None, seed)
    *_, last = _growing(boosters, x.shape[1], outputs, trees.leaves, trees.rounds)
    return last


def _boost(
    x: NDArray[np.float32],
    y: NDArray[Any],
    outputs: int,
    leaves: int,
    plan: TreePlan,
    weights: NDArray[Any] | None,
    seed: int,
) -> list[tuple[Any, tuple[int, ...]]]:
    """Fitted estimators, each with the outputs that its trees add to."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    options = {
        "max_iter": plan.rounds,
        "max_leaf_nodes": leaves,
        "learning_rate": plan.learning_rate,
        "l2_regularization": plan.l2,
        "min_samples_leaf": min(plan.samples_in_leaf, max(1, len(x) // 4)),
        "early_stopping": False,
        "random_state": seed,
    }
    if np.issubdtype(y.dtype, np.integer):
        if len(np.unique(y)) < 2:
            raise TrainingError(f"trees need at least two classes among the training samples, not {len(np.unique(y))}")
        booster = HistGradientBoostingClassifier(**options).fit(x, y, sample_weight=weights)
        classes = tuple(int(one) for one in booster.classes_)
        return [(booster, classes[1:] if len(classes) == 2 else classes)]
    columns = y.reshape(len(y), -1)
    if columns.shape[1] != outputs:
        raise TrainingError(f"y has {columns.shape[1]} numbers a sample; expected {outputs}")
    return [
        (HistGradientBoostingRegressor(**options).fit(x, column, sample_weight=weights), (output,))
        for output, column in enumerate(columns.T)
    ]


def _growing(
    boosters: Sequence[tuple[Any, tuple[int, ...]]], inputs: int, outputs: int, leaves: int, rounds: int
) -> Iterator[Trees]:
    """The ensemble after ever more rounds."""
    base = np.full(outputs, ABSENT if hasattr(boosters[0][0], "classes_") else 0.0)
    if hasattr(boosters[0][0], "classes_"):
        base[boosters[0][0].classes_] = 0.0
    for booster, targets in boosters:
        base[list(targets)] = booster._baseline_prediction.ravel()  # noqa: SLF001  (not public, tested)
    steps = np.unique(np.geomspace(1, rounds, CHECKS).round().astype(int))
    grown: list[Tree] = []
    for before, now in pairwise((0, *steps)):
        for booster, targets in boosters:
            for one_round in booster._predictors[before:now]:  # noqa: SLF001
                grown += [_tree(part.nodes, target) for part, target in zip(one_round, targets, strict=True)]
        yield Trees(inputs, tuple(float(value) for value in base), tuple(grown), leaves, int(now))


def _tree(nodes: NDArray[Any], output: int) -> Tree:
    found = []
    for node in nodes:
        leaf = bool(node["is_leaf"])
        found.append(
            Node(
                feature=-1 if leaf else int(node["feature_idx"]),
                threshold=0.0 if leaf else _down(float(node["num_threshold"])),
                left=0 if leaf else int(node["left"]),
                right=0 if leaf else int(node["right"]),
                missing_left=bool(node["missing_go_to_left"]) and not leaf,
                value=float(node["value"]) if leaf else 0.0,
            )
        )
    ends = nodes[nodes["is_leaf"] == 1]
    count = ends["count"].astype(float)
    return Tree(output, tuple(found), float((count * (ends["depth"] + 1.0)).sum() / max(count.sum(), 1.0)))


def _down(threshold: float) -> float:
    """The largest float32 that is not above ``threshold``: for a float32 x, ``x <= threshold`` is the same."""
    value = np.float32(threshold)
    return float(np.nextafter(value, np.float32(-np.inf)) if float(value) > threshold else value)


def _added(answers: NDArray[np.float64], trees: Sequence[Tree], x: NDArray[np.float32]) -> NDArray[np.float64]:
    """``answers`` (n, outputs) and what ``trees`` add, in place."""
    for tree in trees:
        answers[:, tree.output] += _leaf_values(tree, x)
    return answers


def _leaf_values(tree: Tree, x: NDArray[np.float32]) -> NDArray[np.float64]:
    feature, left, right = (np.array([getattr(n, name) for n in tree.nodes]) for name in ("feature", "left", "right"))
    threshold = np.array([node.threshold for node in tree.nodes])
    missing_left = np.array([node.missing_left for node in tree.nodes])
    place = np.zeros(len(x), int)
    while len(going := np.flatnonzero(feature[place] >= 0)):
        at = place[going]
        values = x[going, feature[at]]
        goes_left = np.where(np.isnan(values), missing_left[at], values <= threshold[at])
        place[going] = np.where(goes_left, left[at], right[at])
    return np.array([node.value for node in tree.nodes])[place]


def export_trees(trees: Trees, path: Path, *, answer: str = "logits") -> None:
    """Write an ONNX file: ``input`` (batch, inputs) float32 -> ``answer`` (batch, outputs) float32."""
    import onnx
    from onnx import TensorProto, helper

    fields: dict[str, list[Any]] = {}
    for number, tree in enumerate(trees.trees):
        for place, node in enumerate(tree.nodes):
            leaf = node.feature < 0
            _append(
                fields,
                nodes_treeids=number,
                nodes_nodeids=place,
                nodes_featureids=max(node.feature, 0),
                nodes_modes="LEAF" if leaf else "BRANCH_LEQ",
                nodes_values=node.threshold,
                nodes_truenodeids=node.left,
                nodes_falsenodeids=node.right,
                nodes_missing_value_tracks_true=int(node.missing_left),
            )
            if leaf:
                _append(
                    fields,
                    target_treeids=number,
                    target_nodeids=place,
                    target_ids=tree.output,
                    target_weights=node.value,
                )
    make_node: Any = helper.make_node
    ensemble = make_node(
        "TreeEnsembleRegressor",
        ["input"],
        [answer],
        domain="ai.onnx.ml",
        n_targets=len(trees.base),
        base_values=list(trees.base),
        aggregate_function="SUM",
        post_transform="NONE",
        **fields,
    )
    graph = helper.make_graph(
        [ensemble],
        trees.label,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", trees.inputs])],
        [helper.make_tensor_value_info(answer, TensorProto.FLOAT, ["batch", len(trees.base)])],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8
    )
    onnx.checker.check_model(model)
    write_atomic(path, model.SerializeToString())


def _append(fields: dict[str, list[Any]], **values: Any) -> None:
    for name, value in values.items():
        fields.setdefault(name, []).append(value)
