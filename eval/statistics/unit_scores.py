"""Scores, truths and failures of units of several rows, by NumPy alone: for `eval.units`, and without pandas.

Rules as of `eval.units`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...core.label_groups import Part, parts_of

MAX, MEAN, NOISY_OR = RULES = ("max", "mean", "noisy-or")
LEARNED = "learned"  # of a model whose every image carries the score of its unit
ALL = ""  # the key of the rule for findings that have none of their own
WARNING = "warning"
_LONGEST = 300  # letters of a failure or warning of one image that is repeated for its unit


def rules_by_label(rule: str | Mapping[str, str] | None) -> dict[str, str]:
    """Return rules by finding, `ALL` for those without one of their own; empty where none is given."""
    return {} if rule is None else {ALL: rule} if isinstance(rule, str) else dict(rule)


def rules_of(rule: str | Mapping[str, str] | None, labels: Sequence[str]) -> dict[str, str]:
    """Return the rule of each finding, `max` where none is given."""
    given = rules_by_label(rule)
    return {label: given.get(label, given.get(ALL, MAX)) for label in labels}


class Groups:
    """N rows in G groups, in the order of their first rows; no result depends on the order within one.

    Args:
        names: (N,) group of each row.
        keys: (N,) unique, by which the rows of a group are put in order: a sum of floats depends on it.
    """

    def __init__(self, names: Sequence[str], keys: Sequence[Any]):
        sorted_names, first, codes = np.unique(np.asarray(names, str), return_index=True, return_inverse=True)
        order = np.argsort(first)
        self.names = [str(name) for name in sorted_names[order]]
        codes = np.argsort(order)[codes]
        self._order = np.lexsort((np.array([str(key) for key in keys]), codes))
        self._starts = np.flatnonzero(np.diff(codes[self._order], prepend=-1))
        self.counts = np.diff([*self._starts, len(codes)])

    def largest(self, values: np.ndarray) -> np.ndarray:
        """Return (G, ...) largest values of (N, ...), of those that are no NaN."""
        return np.fmax.reduceat(values[self._order], self._starts, axis=0)

    def smallest(self, values: np.ndarray) -> np.ndarray:
        """Return (G, ...) smallest values of (N, ...), of those that are no NaN."""
        return np.fmin.reduceat(values[self._order], self._starts, axis=0)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return (G, ...) sums of (N, ...)."""
        return np.add.reduceat(values[self._order], self._starts, axis=0)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return (G, ...) means of (N, ...), of those that are no NaN; NaN of none."""
        known = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            return self.total(np.where(known, values, 0.0)) / self.total(known.astype(np.float64))

    def at_least_one(self, values: np.ndarray) -> np.ndarray:
        """Return (G, ...) 1 - prod(1 - p) of (N, ...) p, of those that are no NaN; NaN of none."""
        known = ~np.isnan(values)
        none = np.multiply.reduceat(np.where(known, 1 - values, 1.0)[self._order], self._starts, axis=0)
        count = self.total(known.astype(np.int64))
        # Of one image it is its own score, to the last digit.
        return np.where(count > 1, 1 - none, self.largest(values))

    def firsts(self) -> np.ndarray:
        """Return (G,) first row of each group."""
        return self._order[self._starts]

    def texts(self, cells: Sequence[Any] | np.ndarray) -> list[list[str]]:
        """Return the texts of each group that are not empty, each once."""
        own = np.asarray(cells)
        ordered = [str(own[row]) for row in self._order]
        ends = [*self._starts[1:], len(ordered)]
        return [
            list(dict.fromkeys(text for text in ordered[start:end] if text))
            for start, end in zip(self._starts, ends, strict=True)
        ]


def present(groups: Groups, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (G, L) whether a finding is in one image at least of each unit, and where the images of one differ.

    It is unknown where no image is known to show it and one is not known not to.
    """
    largest = groups.largest(truth)
    unknown = groups.total(np.isnan(truth).astype(np.int64)) > 0
    return np.where(unknown & (largest != 1), np.nan, largest), largest > groups.smallest(truth)


def agreed(groups: Groups, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (G, T) truth of units that all their images share, NaN where two differ; and (G,) which these are."""
    most, least = groups.largest(truth), groups.smallest(truth)
    differing = np.asarray(np.any(most > least, axis=1))
    return np.where(differing[:, None], np.nan, most), differing


def rule_scores(groups: Groups, labels: Sequence[str], scores: np.ndarray, rules: Mapping[str, str]) -> np.ndarray:
    """Return (G, L) scores of findings of (N, L), each by its rule."""
    made = {MAX: groups.largest, LEARNED: groups.largest, MEAN: groups.mean, NOISY_OR: groups.at_least_one}
    return np.column_stack([made[rules[label]](own) for label, own in zip(labels, scores.T, strict=True)])


def finding_columns(labels: Sequence[str], truth: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of (G, L) truth and scores."""
    named = {f"y_{label}": truth[:, place] for place, label in enumerate(labels)}
    return named | {f"p_{label}": scores[:, place] for place, label in enumerate(labels)}


def unit_findings(
    groups: Groups, labels: Sequence[str], truth: np.ndarray, scores: np.ndarray, rules: Mapping[str, str],
    exclusive: bool = False,
) -> tuple[dict[str, np.ndarray], list[tuple[Part, np.ndarray]]]:  # fmt: skip
    """Return the columns of units, and of each part of the labels where the rows of a unit differ.

    A finding is present where it is in one row, and scored by its rule; the class of an exclusive set or group is of
    the unit as a whole, and its scores are averaged.

    Args:
        groups: The units.
        labels: L names.
        truth: (N, L) of 0, 1 and NaN.
        scores: (N, L).
        rules: Of each finding.
        exclusive: Whether the labels are one set of exclusive classes.
    """
    known, score = np.empty((len(groups.names), len(labels))), np.empty((len(groups.names), len(labels)))
    said = []
    for part in parts_of(labels, exclusive):
        own = part.places
        if part.exclusive:
            known[:, own], differing = agreed(groups, truth[:, own])
            score[:, own] = groups.mean(scores[:, own])
        else:
            known[:, own], differing = present(groups, truth[:, own])
            score[:, own] = rule_scores(groups, [labels[place] for place in own], scores[:, own], rules)
        said.append((part, differing))
    return finding_columns(labels, known, score), said


def head_columns(table: Mapping[str, Any], groups: Groups, unit: str, of: str) -> dict[str, Any]:
    """Return the columns of G units that are no scores; counts of smaller units are added up.

    Args:
        table: Columns of N rows of predictions.
        groups: Of these.
        unit: What a group is.
        of: What a row is: `image`, `clip`, `slide`.
    """
    cells = {name: np.asarray(table[name]) for name in ("patient", "split", "status", "reason")}
    ok = cells["status"] == "ok"
    count, failed = f"{of}s", f"failed_{of}s"
    ones = np.ones(len(ok), dtype=np.int64)
    each = [ones, ones - ok]
    if count in table and failed in table:
        each = [np.asarray(table[name]).astype(int).astype(np.int64) for name in (count, failed)]
    whole, lost = map(groups.total, each)
    good = groups.total(ok.astype(np.int64)) > 0
    first = groups.firsts()
    columns: dict[str, Any] = {"id": list(groups.names)} | {key: cells[key][first] for key in ("patient", "split")}
    reasons = [_short(texts) for texts in groups.texts(cells["reason"])]
    columns["status"] = np.where(good, "ok", "failed")
    columns["reason"] = [
        "" if fine else reason if n == 1 else f"all {n} {of}s failed: {reason}"
        for fine, n, reason in zip(good, whole, reasons, strict=True)
    ]
    if unit in table and unit != "patient":
        columns[unit] = np.asarray(table[unit])[first]
    columns |= {count: whole, failed: lost}
    warnings = groups.texts(np.asarray(table[WARNING])) if WARNING in table else [[]] * len(whole)
    said = [
        [f"{k} of {n} {of}s failed: {reason}"] * bool(fine and k and reason) + texts
        for fine, k, n, reason, texts in zip(good, lost, whole, reasons, warnings, strict=True)
    ]
    return columns | ({WARNING: [_short(texts) for texts in said]} if any(said) else {})


def _short(texts: Sequence[str]) -> str:
    """Return the first of several texts, and how many others there are."""
    if not texts:
        return ""
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    return (texts[0] if len(texts[0]) <= _LONGEST else f"{texts[0][:_LONGEST]}...") + more
