"""scikit-learn's best at each data set of ``scripts/bench/trainer``: several models, their settings searched by
cross-validation on the samples that the trainer also has (train and validation parts), then one look at the test part.

People, speakers and times are kept apart in the folds as in the splits. Features are what a practitioner would give the
model: spectra and statistics of windows, log-mel energies of sounds, word and letter n-grams, lags and the calendar.
Only for anomalies, where no labels may be used, the best of four models *on the test part* is taken, which favours the
baseline. A result is kept under a digest of the splits, so that nothing is fitted twice.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from trainer_features import lags, log_mel, most_seen, window_statistics

from cloud_trainer.data import Dataset, Splits
from shared.files import write_atomic

Array = NDArray[Any]
SEED = 0
VERSION = 1
"""Raise it when a change of a model, a setting or a feature makes kept results untrue."""


class Baseline(Struct, frozen=True):
    """``model`` is the winner and its settings, ``candidates`` the cross-validated score of each; ``answers`` of the
    test part: class scores (n, classes), numbers, or anomaly scores."""

    model: str
    candidates: dict[str, float]
    seconds: float
    answers: Any = None


class Candidate(Struct, frozen=True):
    """A model, the settings to search, and how many of them to try (0: all)."""

    name: str
    model: Any
    settings: dict[str, list[Any]]
    trials: int = 0


def fit(kind: str, splits: Splits, folder: Path, name: str) -> Baseline:
    """The tuned baseline, from ``folder`` where it was fitted before."""
    key = hashlib.sha256(f"{VERSION} {kind}".encode())
    for part in (splits.train, splits.validation, splits.test):
        for values in (part.x, part.y):
            key.update(repr(values.tolist()).encode() if values.dtype == object else np.ascontiguousarray(values))
    stem = folder / f"baseline-{name}-{key.hexdigest()[:12]}"
    if stem.with_suffix(".json").is_file():
        told = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        return Baseline(**told, answers=np.load(stem.with_suffix(".npy"), allow_pickle=False))
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # searches try settings that do not converge
        model, candidates, answers = KINDS[kind](splits)
    found = Baseline(model, candidates, round(time.process_time() - start, 1), answers)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(stem.with_suffix(".npy"), answers)
    told = {"model": model, "candidates": candidates, "seconds": found.seconds}
    write_atomic(stem.with_suffix(".json"), json.dumps(told, indent=2).encode())
    return found


Found = tuple[str, dict[str, float], Array]


def _search(
    candidates: list[Candidate],
    x: list[Array],
    y: Array,
    test: list[Array],
    *,
    folds: Any,
    groups: Array | None = None,
    scoring: str,
    answer: Callable[[Any, Array], Array],
    tune_on: int = 0,
) -> Found:
    """Search each candidate on its own features ``x[k]``; the best of all answers ``test[k]``.

    ``tune_on``: samples to search on, where all are too many; the winner is fitted on all.
    """
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

    rng = np.random.default_rng(SEED)
    some = np.sort(rng.permutation(len(y))[:tune_on]) if tune_on and tune_on < len(y) else np.arange(len(y))
    best: tuple[float, int, Any] = (-np.inf, 0, None)
    told = {}
    for k, candidate in enumerate(candidates):
        shared = {"scoring": scoring, "cv": folds, "refit": False, "error_score": "raise"}
        if candidate.trials:
            search: Any = RandomizedSearchCV(
                candidate.model, candidate.settings, n_iter=candidate.trials, random_state=SEED, **shared
            )
        else:
            search = GridSearchCV(candidate.model, candidate.settings, **shared)
        search.fit(x[k][some], y[some], groups=None if groups is None else groups[some])
        told[candidate.name] = round(float(search.best_score_), 4)
        if search.best_score_ > best[0]:
            best = (float(search.best_score_), k, search.best_params_)
    _, k, settings = best
    model = clone(candidates[k].model).set_params(**settings).fit(x[k], y)
    words = ", ".join(f"{key.rpartition('__')[2]} {value}" for key, value in settings.items())
    return f"{candidates[k].name} ({words})", told, np.asarray(answer(model, test[k]))


def _scores(model: Any, x: Array) -> Array:
    """(n, classes)."""
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(x), np.float32)
    margin = np.asarray(model.decision_function(x), np.float32)
    return margin if margin.ndim == 2 else np.stack([-margin, margin], axis=1)


def _numbers(model: Any, x: Array) -> Array:
    return np.asarray(model.predict(x), np.float32)


def _both(splits: Splits) -> Dataset:
    """What may be learned from."""
    a, b = splits.train, splits.validation
    groups = None if a.groups is None or b.groups is None else np.concatenate([a.groups, b.groups])
    return Dataset(np.concatenate([a.x, b.x]), np.concatenate([a.y, b.y]), a.labels, a.columns, groups)


def _forest(*, regression: bool = False) -> Candidate:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    model = (RandomForestRegressor if regression else RandomForestClassifier)(300, random_state=SEED)
    return Candidate("random forest", model, {"max_features": ["sqrt", 0.5], "min_samples_leaf": [1, 3]})


def _boosting(*, regression: bool = False, trials: int = 12) -> Candidate:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    model = (HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier)(random_state=SEED)
    settings = {
        "learning_rate": [0.03, 0.06, 0.1],
        "max_iter": [150, 300, 600],
        "max_leaf_nodes": [7, 15, 31, 63],
        "min_samples_leaf": [5, 20, 50],
        "l2_regularization": [0.0, 1.0, 10.0],
    }
    return Candidate("gradient boosting", model, settings, trials)


def _kernel(x: Array, *, regression: bool = False) -> Candidate:
    """``x`` has the columns that it will see."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC, SVR

    machine, step = (SVR(), "svr") if regression else (SVC(cache_size=1000), "svc")
    gammas = [round(share / x.shape[1], 6) for share in (0.1, 0.3, 1.0, 3.0)]
    model = make_pipeline(SimpleImputer(), StandardScaler(), machine)
    return Candidate("RBF SVM", model, {f"{step}__C": [0.3, 1.0, 3.0, 10.0, 30.0], f"{step}__gamma": gammas})


def _logistic() -> Candidate:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=2000))
    return Candidate("logistic regression", model, {"logisticregression__C": [0.01, 0.1, 1.0, 10.0]})


def _ridge() -> Candidate:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return Candidate("ridge", make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [0.1, 1.0, 10.0, 100.0, 1e3]})


def _folds(n: int = 5) -> Any:
    from sklearn.model_selection import StratifiedKFold

    return StratifiedKFold(n, shuffle=True, random_state=SEED)


def image_classification(splits: Splits) -> Found:
    both = _both(splits)
    x, test = (part.x.reshape(len(part), -1).astype(np.float32) / 255 for part in (both, splits.test))
    many = len(x) > 5000
    kernel = _kernel_on_pixels(x)
    candidates = [kernel, _boosting(trials=3)] if many else [kernel, _forest(), _logistic()]
    n = len(candidates)
    return _search(
        candidates, [x] * n, both.y, [test] * n, folds=_folds(3), scoring="accuracy", answer=_scores,
        tune_on=5000,
    )  # fmt: skip


def _kernel_on_pixels(x: Array) -> Candidate:
    """Pixels share a unit, so they are not standardised."""
    from sklearn.svm import SVC

    scale = 1 / (x.shape[1] * float(x.var()))
    gammas = [round(share * scale, 6) for share in (0.5, 1.0, 2.0)]
    return Candidate("RBF SVM", SVC(cache_size=2000), {"C": [3.0, 10.0, 30.0], "gamma": gammas})


def image_anomaly(splits: Splits) -> Found:
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import roc_auc_score
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.svm import OneClassSVM

    normal = np.concatenate([splits.train.x, splits.validation.x])
    x, test = (part.reshape(len(part), -1).astype(np.float32) / 255 for part in (normal, splits.test.x))
    answers: dict[str, Array] = {}
    for share in (0.5, 0.8, 0.9, 0.95, 0.99):
        pca = PCA(share, random_state=SEED).fit(x)
        rest = test - pca.inverse_transform(pca.transform(test))
        answers[f"PCA, {share:.0%} of the variance"] = (rest**2).mean(axis=1)
    for nu in (0.01, 0.05, 0.2):
        answers[f"one-class SVM (nu {nu})"] = -OneClassSVM(nu=nu).fit(x).decision_function(test)
    for neighbours in (3, 10, 30):
        outliers = LocalOutlierFactor(neighbours, novelty=True).fit(x)
        answers[f"local outlier factor ({neighbours} neighbours)"] = -outliers.decision_function(test)
    answers["isolation forest"] = -IsolationForest(n_estimators=300, random_state=SEED).fit(x).decision_function(test)
    told = {name: round(float(roc_auc_score(splits.test.y, scores)), 4) for name, scores in answers.items()}
    best = max(told, key=lambda name: told[name])
    return f"{best} (the best on the test part)", told, answers[best].astype(np.float32)


def tabular_classification(splits: Splits) -> Found:
    both = _both(splits)
    candidates = [_boosting(), _imputed(_forest()), _kernel(both.x), _logistic()]
    return _search(
        candidates, [both.x] * 4, both.y, [splits.test.x] * 4, folds=_folds(), scoring="accuracy", answer=_scores
    )


def _imputed(candidate: Candidate) -> Candidate:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(SimpleImputer(), candidate.model)
    step = model.steps[-1][0]
    return Candidate(candidate.name, model, {f"{step}__{key}": value for key, value in candidate.settings.items()})


def tabular_regression(splits: Splits) -> Found:
    from sklearn.model_selection import KFold

    both = _both(splits)
    candidates = [_boosting(regression=True, trials=20), _forest(regression=True), _ridge(), _target_scaled(both.x)]
    return _search(
        candidates, [both.x] * 4, both.y, [splits.test.x] * 4,
        folds=KFold(5, shuffle=True, random_state=SEED), scoring="r2", answer=_numbers,
    )  # fmt: skip


def _target_scaled(x: Array) -> Candidate:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler

    inner = _kernel(x, regression=True)
    model = TransformedTargetRegressor(inner.model, transformer=StandardScaler())
    return Candidate(inner.name, model, {f"regressor__{key}": value for key, value in inner.settings.items()})


def forecasting(splits: Splits) -> Found:
    """Ridge over lags and calendar for all steps at once; boosting with the step as one more column."""
    from sklearn.metrics import r2_score
    from sklearn.model_selection import ParameterSampler, TimeSeriesSplit

    both, test = _both(splits), splits.test
    steps = both.y.shape[1]
    flat, tall = lags(both.x, steps)
    test_flat, test_tall = lags(test.x, steps)
    gap = -(-steps // 3)
    folds = list(TimeSeriesSplit(4, gap=gap).split(flat))
    ridge = _ridge()
    boosting = _boosting(regression=True)
    told: dict[str, float] = {}
    best: tuple[float, str, Any] = (-np.inf, "", None)

    def rows(index: Array) -> Array:
        return (index[:, None] * steps + np.arange(steps)).ravel()

    def consider(name: str, settings: Any, model: Any, x: Array, y: Array, shape: Callable[[Array], Array]) -> None:
        nonlocal best
        from sklearn.base import clone

        values = []
        for fitted, held in folds:
            one = clone(model).set_params(**settings).fit(x[shape(fitted)], y[shape(fitted)])
            answer = one.predict(x[shape(held)]).reshape(len(held), steps)
            values.append(r2_score(both.y[held].ravel(), answer.ravel()))
        told[name] = round(max(told.get(name, -np.inf), float(np.mean(values))), 4)
        if np.mean(values) > best[0]:
            best = (float(np.mean(values)), name, settings)

    for alpha in ridge.settings["ridge__alpha"]:
        consider("ridge", {"ridge__alpha": alpha}, ridge.model, flat, both.y, lambda index: index)
    for settings in ParameterSampler(boosting.settings, 8, random_state=SEED):
        consider("gradient boosting", settings, boosting.model, tall, both.y.ravel(), rows)
    _, name, settings = best
    if name == "ridge":
        answers = ridge.model.set_params(**settings).fit(flat, both.y).predict(test_flat)
    else:
        answers = boosting.model.set_params(**settings).fit(tall, both.y.ravel()).predict(test_tall)
    words = ", ".join(f"{key.rpartition('__')[2]} {value}" for key, value in settings.items())
    return f"{name} ({words})", told, np.asarray(answers, np.float32).reshape(len(test), steps)


def series_classification(splits: Splits) -> Found:
    from sklearn.model_selection import GroupKFold

    both = _both(splits)
    x, test = window_statistics(both.x), window_statistics(splits.test.x)
    candidates = [_boosting(trials=8), _forest(), _kernel(x), _logistic()]
    return _search(
        candidates, [x] * 4, both.y, [test] * 4,
        folds=GroupKFold(4), groups=both.groups, scoring="accuracy", answer=_scores,
    )  # fmt: skip


def audio_classification(splits: Splits) -> Found:
    from sklearn.model_selection import GroupKFold

    both = _both(splits)
    if both.x.ndim == 2:
        frames, test_frames = (log_mel(part.x, splits.train.rate) for part in (both, splits.test))
    else:
        frames, test_frames = both.x, splits.test.x
    flat, test_flat = (part.reshape(len(part), -1) for part in (frames, test_frames))
    pooled, test_pooled = (most_seen(part) for part in (frames, test_frames))
    candidates = [_kernel(flat), _logistic(), _forest(), _kernel(pooled), _boosting(trials=4)]
    candidates[3] = Candidate("RBF SVM on pooled frames", candidates[3].model, candidates[3].settings)
    candidates[4] = Candidate("gradient boosting on pooled frames", candidates[4].model, candidates[4].settings, 4)
    return _search(
        candidates, [flat, flat, flat, pooled, pooled], both.y,
        [test_flat, test_flat, test_flat, test_pooled, test_pooled],
        folds=GroupKFold(4) if both.groups is not None else _folds(4), groups=both.groups,
        scoring="accuracy", answer=_scores,
    )  # fmt: skip


def text_classification(splits: Splits) -> Found:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import ComplementNB
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    both = _both(splits)

    def vectors() -> Any:
        return make_union(
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\S+"),
            TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5), min_df=2),
        )

    c = [0.3, 1.0, 3.0, 10.0]
    candidates = [
        Candidate("linear SVM on n-grams", make_pipeline(vectors(), LinearSVC(random_state=SEED)), {"linearsvc__C": c}),
        Candidate(
            "logistic regression on n-grams",
            make_pipeline(vectors(), LogisticRegression(max_iter=1000)),
            {"logisticregression__C": [3.0, 10.0, 30.0, 100.0]},
        ),
        Candidate(
            "naive Bayes on n-grams", make_pipeline(vectors(), ComplementNB()), {"complementnb__alpha": [0.05, 0.3, 1]}
        ),
    ]
    return _search(
        candidates, [both.x] * 3, both.y, [splits.test.x] * 3, folds=_folds(), scoring="accuracy", answer=_scores
    )


def recommendation(splits: Splits) -> Found:
    """Logistic regression and naive Bayes on what was bought before and on what was bought last."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    both = _both(splits)
    place = {item: k for k, item in enumerate(both.labels)}

    def counts(x: Array) -> Array:
        table = np.zeros((len(x), 2 * len(place)), np.float32)
        for row, items in zip(table, x, strict=True):
            for item in items:
                if item in place:
                    row[place[item]] += 1
            if items[-1] in place:
                row[len(place) + place[items[-1]]] = 1
        return table

    x, test = counts(both.x), counts(splits.test.x)
    classes = np.arange(len(place))

    def answer(model: Any, rows: Array) -> Array:
        scores = np.zeros((len(rows), len(classes)), np.float32)
        scores[:, model.classes_] = model.predict_proba(rows)
        return scores

    last = FunctionTransformer(_heavier)
    candidates = [
        Candidate("logistic regression", LogisticRegression(max_iter=500), {"C": [0.03, 0.1, 0.3, 1.0]}),
        Candidate("naive Bayes", make_pipeline(last, MultinomialNB()),
                  {"functiontransformer__kw_args": [{"weight": w} for w in (1, 3, 6)],
                   "multinomialnb__alpha": [0.1, 0.5]}),
    ]  # fmt: skip
    from sklearn.model_selection import TimeSeriesSplit

    return _search(
        candidates, [x, x], both.y, [test, test], folds=TimeSeriesSplit(3), scoring=_ndcg_scorer, answer=answer,
    )  # fmt: skip


def _heavier(x: Array, weight: float = 1.0) -> Array:
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], weight * x[:, half:]], axis=1)


def _ndcg_scorer(model: Any, x: Array, y: Array) -> float:
    scores = np.full((len(x), int(max(y.max(), model.classes_.max())) + 1), -1.0)
    scores[:, model.classes_] = model.predict_proba(x)
    return ndcg_at_10(scores, y)


def ndcg_at_10(scores: Array, y: Array) -> float:
    """One right item a row (Järvelin and Kekäläinen 2002): 1 / log2(1 + its rank), 0 beyond rank 10; ties count as
    lost."""
    own = scores[np.arange(len(y)), y][:, None]
    rank = (scores >= own).sum(axis=1)
    return float(np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0).mean())


KINDS: dict[str, Callable[[Splits], Found]] = {
    "image-classification": image_classification,
    "image-anomaly": image_anomaly,
    "tabular-classification": tabular_classification,
    "tabular-regression": tabular_regression,
    "forecasting": forecasting,
    "series-classification": series_classification,
    "audio-classification": audio_classification,
    "text-classification": text_classification,
    "recommendation": recommendation,
}


def score(kind: str, answers: Array, truth: Array) -> float:
    """The single score of a kind, from a baseline's answers: accuracy, R² over all numbers, AUC, NDCG@10."""
    if kind.endswith("classification"):
        return float((answers.argmax(axis=1) == truth).mean())
    if kind == "recommendation":
        return ndcg_at_10(answers, truth)
    from sklearn.metrics import r2_score, roc_auc_score

    if kind == "image-anomaly":
        return float(roc_auc_score(truth, answers))
    return float(r2_score(truth.ravel(), answers.ravel()))
