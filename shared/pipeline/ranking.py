"""Rank: candidates in the order of their scores, after the rules that a business sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from shared.pipeline.base import LIMIT_WORDS, Array, FieldOperation, Fields, number_field, objects, refuse


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    """One candidate: its id, and tags that rules go by."""

    id: str
    tags: tuple[str, ...] = ()


class Rule(Struct, frozen=True, tag_field="rule", forbid_unknown_fields=True):
    """A rule meets the items in ``ids``, and those with one of ``tags``; without both, every item."""

    ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def meets(self, items: tuple[Item, ...]) -> NDArray[np.bool_]:
        """Which of ``items`` the rule is about, (items,)."""
        if not self.ids and not self.tags:
            return np.ones(len(items), dtype=bool)
        ids, tags = frozenset(self.ids), frozenset(self.tags)
        return np.fromiter((item.id in ids or not tags.isdisjoint(item.tags) for item in items), bool, len(items))


class Filter(Rule, frozen=True, tag="filter"):
    """Keep only the items that the rule meets, and of them those with a score of at least ``minimum_score``."""

    minimum_score: float | None = None


class Exclude(Rule, frozen=True, tag="exclude"):
    """Leave the items out that the rule meets."""

    def __post_init__(self) -> None:
        if not self.ids and not self.tags:
            raise ValueError("exclude: names neither ids nor tags; it would leave nothing")


class Boost(Rule, frozen=True, tag="boost"):
    """Their scores times ``factor`` plus ``add``. A factor above 1 makes a negative score worse: use ``add`` there."""

    factor: Annotated[float, Meta(ge=0)] = 1.0
    add: float = 0.0


class Limit(Rule, frozen=True, tag="limit", kw_only=True):
    """At most ``count`` of the items that the rule meets, the best; without ids and tags, of all."""

    count: Annotated[int, Meta(ge=1)]


Rules = Filter | Exclude | Boost | Limit


class Rank(FieldOperation, frozen=True, tag="rank", dict=True):
    """Scores (n, items), in the order of ``items``, → the items' ids, best first; equals by their place.

    With ``candidates``, a field (n, k) of places in ``items`` (or -1 for none), scores are (n, k) of those. ``rules``
    work one after the other: each sees what those before it left, with the scores that they gave. NaN is no candidate.
    """

    items: Annotated[tuple[Item, ...], Meta(min_length=1, max_length=LIMIT_WORDS)]
    rules: tuple[Rules, ...] = ()
    source: str = "scores"
    candidates: str = ""
    target: str = "ranked"

    def __post_init__(self) -> None:
        if len({item.id for item in self.items}) != len(self.items):
            raise ValueError("rank: two items have the same id")

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n, k) int64, places in ``items``, -1 where fewer are left; ``label`` (n,) the best id or
        "", ``score`` (n,) float64, its score or 0; ``value`` (n,), lists of ``{"id": ..., "score": ...}``."""
        scores = number_field(self, fields, self.source)
        if scores.ndim != 2 or not (self.candidates or scores.shape[1] == len(self.items)):
            raise refuse(self, f"(n, {len(self.items)}) in field {self.source!r}", scores)
        places = self._candidates(fields, scores)
        meets = self.__dict__.setdefault("meets", [rule.meets(self.items) for rule in self.rules])
        ranked = np.full(scores.shape, -1, np.int64)
        values: list[list[dict[str, Any]]] = []
        best = np.zeros(len(scores))
        for i in range(len(scores)):
            place, score = self._row(places[i], scores[i].astype(np.float64), meets)
            ranked[i, : len(place)] = place
            best[i] = score[0] if len(score) else 0.0
            pairs = zip(place.tolist(), score.tolist(), strict=True)
            values.append([{"id": self.items[p].id, "score": s} for p, s in pairs])
        label = objects(rows[0]["id"] if rows else "" for rows in values)
        return {self.target: ranked, "label": label, "score": best, "value": objects(values)}

    def _candidates(self, fields: Mapping[str, Array], scores: Array) -> NDArray[np.int64]:
        if not self.candidates:
            return np.broadcast_to(np.arange(len(self.items)), scores.shape)
        places = number_field(self, fields, self.candidates)
        if places.shape != scores.shape or places.dtype.kind not in "iu":
            raise refuse(self, f"{scores.shape} whole numbers in field {self.candidates!r}", places)
        if places.size and not -1 <= places.min() <= places.max() < len(self.items):
            raise refuse(self, f"places in {len(self.items)} items (or -1) in field {self.candidates!r}", places)
        return places.astype(np.int64)

    def _row(
        self, place: NDArray[np.int64], score: NDArray[np.float64], meets: list[NDArray[np.bool_]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """One sample's places and scores, best first, after all rules."""
        known = (place >= 0) & ~np.isnan(score)
        place, score = place[known], score[known]
        for rule, everywhere in zip(self.rules, meets, strict=True):
            met = everywhere[place]
            if isinstance(rule, Boost):
                score = np.where(met, score * rule.factor + rule.add, score)
                continue
            if isinstance(rule, Filter):
                keep = met if rule.minimum_score is None else met & (score >= rule.minimum_score)
            elif isinstance(rule, Exclude):
                keep = ~met
            else:
                order = np.argsort(-score, kind="stable")
                keep = ~met
                keep[order[met[order]][: rule.count]] = True
            place, score = place[keep], score[keep]
        order = np.argsort(-score, kind="stable")
        return place[order], score[order]
