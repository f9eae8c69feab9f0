"""Decision curves: what a model is worth where a false alarm costs so much of a missed case.

Vickers & Elkin 2006 (Med. Decis. Making 26:565). Who acts from a probability p on says that a false alarm costs
w = p / (1 - p) of what a found case is worth, so that the net benefit of acting on n cases is TP / n - w FP / n. It is
compared with acting on all cases and on none. It takes scores at their word: they must be calibrated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .intervals import NO_INTERVAL, Estimate, estimates
from .metrics import counts, ratio, reasons
from .resampling import PatientBootstrap, Reweighted

THRESHOLDS = np.arange(1, 100) / 100
_WEIGHT = THRESHOLDS / (1 - THRESHOLDS)
_LEVELS = len(THRESHOLDS) + 1  # how many thresholds a score reaches: 0 to 99
_AT_ONCE = 10  # labels whose resamples are held in memory together
_NOT_REACHED = Estimate(0.0, reason=f"{NO_INTERVAL}: no case reaches this threshold")


@dataclass(frozen=True)
class DecisionCurve:
    """One label's net benefit at the T thresholds `THRESHOLDS`, in true positives per case.

    Attributes:
        cases, positives: With known truth.
        net_benefit: T estimates; their intervals are pointwise.
        treat_all: (T,) net benefit of treating every case as positive; that of treating none is 0.
        gain: T estimates: `net_benefit` minus the better of these two.
        reason: Why there is no curve.
    """

    cases: int
    positives: int
    net_benefit: list[Estimate]
    treat_all: np.ndarray
    gain: list[Estimate]
    reason: str

    def at(self, threshold: float) -> Estimate:
        """Return the net benefit at one of the thresholds."""
        return self.net_benefit[round(100 * threshold) - 1]

    def useful(self) -> list[tuple[float, float]]:
        """Return the ranges of thresholds, first and last, where the whole interval of the gain is above 0."""
        better = np.array([estimate.low > 0 for estimate in self.gain])
        edges = np.flatnonzero(np.diff(np.concatenate([[False], better, [False]])))
        return [(float(THRESHOLDS[first]), float(THRESHOLDS[end - 1])) for first, end in edges.reshape(-1, 2)]


def decision_curves(truth: np.ndarray, scores: np.ndarray, bootstrap: PatientBootstrap) -> list[DecisionCurve]:
    """Compute the decision curves of L labels.

    Args:
        truth: (N, L) of 0, 1 and NaN (unknown: left out of that label).
        scores: (N, L) probabilities. A case is predicted positive at or above the threshold.
        bootstrap: The N cases' patients.
    """
    curves = []
    for start in range(0, truth.shape[1], _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        curves += _curves(truth[:, part], scores[:, part], bootstrap)
    return curves


def _curves(truth: np.ndarray, scores: np.ndarray, bootstrap: PatientBootstrap) -> list[DecisionCurve]:
    labels = truth.shape[1]
    groups = _groups(truth, scores)
    size = labels * 2 * _LEVELS
    tally = np.bincount(groups[groups >= 0], minlength=size)[None]
    net, over_all, treat_all = (values[0] for values in _net_benefits(tally, labels))

    def metrics(reweighted: Reweighted) -> dict[str, np.ndarray]:
        drawn, over_all, _ = _net_benefits(reweighted.tallies(groups, size), labels)
        return {"net": drawn.reshape(len(drawn), -1), "over_all": over_all.reshape(len(over_all), -1)}

    draws = bootstrap.drawn(metrics)
    why, few = reasons(truth), bootstrap.smaller_class(truth)
    one_class = np.array([bool(reason) for reason in why])
    net[one_class] = over_all[one_class] = treat_all[one_class] = np.nan
    each = len(THRESHOLDS)
    net, over_all = (
        _by_label(estimates(values.ravel(), draws[name], np.repeat(why, each), np.repeat(few, each)), each)
        for name, values in (("net", net), ("over_all", over_all))
    )
    gain = [[_smaller(*pair) for pair in zip(*rows)] for rows in zip(net, over_all)]
    highest = np.where(np.isnan(truth), 0, scores).max(axis=0, initial=0)
    net = [
        [_NOT_REACHED if threshold > highest[i] and not why[i] else found for threshold, found in zip(THRESHOLDS, row)]
        for i, row in enumerate(net)
    ]
    positives, negatives = counts(truth)
    return [
        DecisionCurve(int(positives[i] + negatives[i]), int(positives[i]), net[i], treat_all[i], gain[i], why[i])
        for i in range(labels)
    ]


def _groups(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Number the group of each case, (N, L), by label, truth and thresholds reached; -1 where truth is unknown."""
    reached = np.searchsorted(THRESHOLDS, scores, side="right")
    label = np.arange(truth.shape[1])
    known = ~np.isnan(truth)
    return np.where(known, (2 * label + np.nan_to_num(truth).astype(int)) * _LEVELS + reached, -1)


def _net_benefits(tally: np.ndarray, labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return net benefit, that over treating all, and that of treating all, each (R, L, T), of (R, groups) cases."""
    tally = tally.reshape(-1, labels, 2, _LEVELS)
    reaching = np.cumsum(tally[..., ::-1], axis=-1)[..., ::-1]  # at least so many thresholds
    everyone, predicted = reaching[..., 0].astype(float), reaching[..., 1:].astype(float)
    cases = everyone.sum(axis=-1)[..., None]
    net = ratio(predicted[..., 1, :] - _WEIGHT * predicted[..., 0, :], cases)
    treat_all = ratio(everyone[..., 1:] - _WEIGHT * everyone[..., :1], cases)
    return net, net - treat_all, treat_all


def _smaller(net: Estimate, over_all: Estimate) -> Estimate:
    """Return the gain over the better of both strategies without a model: the smaller of the two gains.

    Each end is the smaller of both ends. Resamples of the gain itself covered 88 % of the time where both strategies
    are equally good: each of them shows the one that happens to be better.
    """
    smaller = net if np.isnan(net.value) or net.value <= over_all.value else over_all
    if np.isnan(net.low) and np.isnan(over_all.low):
        return smaller
    # One of both may be the same in every resample: no case reaches the threshold, or every one does.
    low, high = (
        min(own if np.isnan(end) else end for own, end in ((net.value, a), (over_all.value, b)))
        for a, b in ((net.low, over_all.low), (net.high, over_all.high))
    )
    return replace(smaller, low=low, high=high, reason="")


def _by_label(found: Sequence[Estimate], each: int) -> list[list[Estimate]]:
    return [list(found[start : start + each]) for start in range(0, len(found), each)]
