"""Metrics in the population that an enriched set was drawn from: every case weighs as many as it stands for.

Hajek's estimators (1971): sums of weights in place of counts. Resamples are of patients, each with all of its cases and
their weights, so that the intervals hold what the weights add to the variance.
"""

import numpy as np

from ...core.errors import DataError, UserError
from ...datasets.manifest.tables import nearest
from .groups import numbers, texts
from .intervals import Estimate, estimates
from .metrics import RATE_REASONS, ratio
from .resampling import PatientBootstrap, Reweighted
from .weighted_roc import roc_area

RATES = ("prevalence", "sensitivity", "specificity", "ppv", "npv", "brier")


def case_weights(columns, ids, name: str) -> np.ndarray:
    """Return the (N,) weights of cases by id, from a column of the manifest.

    Args:
        columns: What is known of the cases, by id.
        ids: Of N cases.
        name: The column.

    Raises:
        UserError: There is no such column.
        DataError: A weight is missing, no number, or not above 0.
    """
    if name not in columns.columns:
        raise UserError(f"weights: the manifest has no column {name!r}{nearest(name, columns.columns)}.")
    cells = texts(columns[name].reindex(ids))
    found = numbers(cells)
    if found is None or not (found > 0).all():
        wrong = cells.index[~(np.nan_to_num(found) > 0)][0] if found is not None else cells.index[0]
        raise DataError(
            f"weights: the column {name!r} has no number above 0 for case {wrong!r} (or others): say for every case "
            "how many patients it stands for."
        )
    return found


def weighted_metrics(
    truth: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray, bootstrap: PatientBootstrap
) -> dict[str, Estimate]:
    """Compute the weighted metrics of one label.

    Args:
        truth: (N,) of 0, 1, NaN.
        score: (N,).
        threshold: For the rates; NaN for none.
        weights: (N,) above 0.
        bootstrap: The N cases' patients.
    """
    few = int(bootstrap.smaller_class(truth[:, None])[0])
    parts = _parts(truth, score, threshold)
    top, bottom = (weights[:, None] * np.column_stack([part[k] for part in parts.values()]) for k in (0, 1))
    drawn = bootstrap.drawn(lambda own: {"rates": _ratio(top, bottom, own)})["rates"]
    values = ratio(top.sum(axis=0), bottom.sum(axis=0))
    no_threshold = "no threshold" if np.isnan(threshold) else ""
    why = [(no_threshold if name in RATE_REASONS else "") or RATE_REASONS.get(name, "no case with known truth")
           for name in parts]  # fmt: skip
    found = dict(zip(parts, estimates(values, drawn, why, [few] * len(parts))))
    return {"auroc": roc_area(truth, score, bootstrap, weights=weights)} | found


def effective_size(weights: np.ndarray) -> float:
    """Return of how many equally weighted cases these are worth (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def _parts(truth: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return by metric which cases count for it, and how much of each: two (N,) arrays, the sum over the counted."""
    known, one, zero = ~np.isnan(truth), truth == 1, truth == 0
    above, below = score >= threshold, score < threshold  # neither where there is no threshold
    error = np.where(known, (score - np.nan_to_num(truth)) ** 2, 0.0)
    pairs = {
        "prevalence": (one, known),
        "sensitivity": (one & above, one & (above | below)),
        "specificity": (zero & below, zero & (above | below)),
        "ppv": (one & above, known & above),
        "npv": (zero & below, known & below),
        "brier": (error, known),
    }
    return {name: (top.astype(np.float64), bottom.astype(np.float64)) for name, (top, bottom) in pairs.items()}


def _ratio(top: np.ndarray, bottom: np.ndarray, own: Reweighted) -> np.ndarray:
    return ratio(*np.split(own.sums(np.concatenate([top, bottom], axis=1)), 2, axis=1))
