"""Metrics for all labels at once.

Truth is (N, L) of 0, 1 and NaN (unknown), scores are (N, L) in 0..1. An unknown truth leaves a case out of that label
only. What cannot be computed is NaN, never 0, and `reasons` says why. A case is predicted positive when its score is at
or above the threshold.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata


class Confusion(NamedTuple):
    """Counts of cases; four arrays of one shape, (L,) or (R, L) over resamples."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray


def counts(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return positive and negative cases per label, two (L,) integer arrays."""
    return (truth == 1).sum(axis=0), (truth == 0).sum(axis=0)


def reasons(truth: np.ndarray) -> list[str]:
    """Say why AUROC and average precision are undefined, one text per label, empty where they are defined."""
    if len(truth) == 0:
        return ["no scored case"] * truth.shape[1]
    positive, negative = counts(truth)
    return [_missing(int(p), int(n)) for p, n in zip(positive, negative)]


def _missing(positive: int, negative: int) -> str:
    if positive + negative == 0:
        return "no case with known truth"
    if positive == 0:
        return "no positive case"
    return "" if negative else "no negative case"


def auroc(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the area under the ROC curve per label (L,): the chance that a positive outscores a negative case.

    Ties count one half (Mann-Whitney, from mid-ranks). NaN where a label has one class only.
    """
    positive, negative = counts(truth)
    if len(truth) == 0:
        return np.full(truth.shape[1], np.nan)
    ranks = rankdata(np.where(np.isnan(truth), np.nan, scores), axis=0, nan_policy="omit")
    rank_sum = np.where(truth == 1, ranks, 0.0).sum(axis=0)
    return ratio(rank_sum - positive * (positive + 1) / 2, positive * negative)


def average_precision(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the average precision per label (L,): precision at each positive case's score, averaged over these.

    The same as scikit-learn's, ties included; NaN where a label has one class only (scikit-learn says 0 or
    1).
    """
    positive, negative = counts(truth)
    if len(truth) == 0:
        return np.full(truth.shape[1], np.nan)
    falling = np.where(np.isnan(truth), np.inf, -scores)  # unknown cases last, where they add nothing
    order = np.argsort(falling, axis=0, kind="stable")
    falling, truth = np.take_along_axis(falling, order, 0), np.take_along_axis(truth, order, 0)
    tp, fp = np.cumsum(truth == 1, axis=0), np.cumsum(truth == 0, axis=0)
    precision = np.take_along_axis(ratio(tp, tp + fp), _end_of_tie(falling), 0)
    total = np.where(truth == 1, precision, 0.0).sum(axis=0)
    return np.where(negative > 0, ratio(total, positive), np.nan)


def brier(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the mean squared difference of score and truth per label (L,); NaN where no truth is known."""
    known = ~np.isnan(truth)
    return ratio(np.where(known, (scores - truth) ** 2, 0.0).sum(axis=0), known.sum(axis=0))


def predicted_labels(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return (N, L) predicted labels: 1, 0, and NaN where the label has no threshold. `thresholds` is (L,)."""
    predicted = (scores >= thresholds).astype(np.float64)
    return np.where(np.isnan(thresholds), np.nan, predicted)


def confusion(truth: np.ndarray, scores: np.ndarray, thresholds: np.ndarray) -> Confusion:
    """Count cases at one threshold per label (L,); all four are 0 where the threshold is NaN."""
    predicted = predicted_labels(scores, thresholds)
    return Confusion(*(cell.sum(axis=0) for cell in confusion_cells(truth, predicted)))


def confusion_cells(truth: np.ndarray, predicted: np.ndarray) -> Confusion:
    """Return which case falls into which cell: four (N, L) boolean arrays."""
    return Confusion(
        tp=(truth == 1) & (predicted == 1),
        fp=(truth == 0) & (predicted == 1),
        fn=(truth == 1) & (predicted == 0),
        tn=(truth == 0) & (predicted == 0),
    )


def rates(cells: Confusion) -> dict[str, np.ndarray]:
    """Compute sensitivity, specificity, PPV, NPV, F1, balanced accuracy, MCC, accuracy; NaN where undefined.

    MCC is Matthews' correlation of truth and predicted label (1975, Biochim. Biophys. Acta 405:442); scikit-learn says
    0 where it is undefined.
    """
    tp, fp, fn, tn = (np.asarray(cell, dtype=np.float64) for cell in cells)
    sensitivity, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": ratio(tp, tp + fp),
        "npv": ratio(tn, tn + fn),
        # F1 asks how positive cases are found: without one it is undefined, not 0.
        "f1": np.where(tp + fn > 0, ratio(2 * tp, 2 * tp + fp + fn), np.nan),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "mcc": ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))),
        "accuracy": ratio(tp + tn, tp + fp + fn + tn),
    }


RATE_REASONS = {
    "sensitivity": "no positive case",
    "specificity": "no negative case",
    "ppv": "no case predicted positive",
    "npv": "no case predicted negative",
    "f1": "no positive case",
    "balanced_accuracy": "one class only",
    "mcc": "all cases or all predicted labels are of one class",
    "accuracy": "no case with known truth",
    "ppv_at_prevalence": "one class only, or no case predicted positive",
    "npv_at_prevalence": "one class only, or no case predicted negative",
}


def predictive_values(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the PPV and NPV that such tests have at another prevalence (Bayes); arrays of one shape.

    NaN where no case would be predicted positive, or none negative.
    """
    found, missed = sensitivity * prevalence, (1 - sensitivity) * prevalence
    spared, alarms = specificity * (1 - prevalence), (1 - specificity) * (1 - prevalence)
    return ratio(found, found + alarms), ratio(spared, spared + missed)


def macro(values: np.ndarray) -> tuple[float, int]:
    """Return the mean over the defined labels, and how many they are; NaN and 0 where none is."""
    defined = values[~np.isnan(values)]
    return (float(defined.mean()), len(defined)) if len(defined) else (float("nan"), 0)


def macro_auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean AUROC over the labels that have both classes; NaN where none has."""
    return macro(auroc(truth, scores))[0]


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `part / whole`, NaN where `whole` is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole != 0)


def _end_of_tie(rising: np.ndarray) -> np.ndarray:
    """Return (N, L) row of the last case with the same value, in columns sorted by rising value."""
    rows = np.arange(len(rising))[:, None]
    last = np.ones(rising.shape, dtype=bool)
    last[:-1] = rising[1:] != rising[:-1]
    ends = np.where(last, rows, len(rising))
    return np.minimum.accumulate(ends[::-1], axis=0)[::-1]
