"""Two models' predicted labels of each finding, at their own thresholds: paired differences, and McNemar's test."""

from dataclasses import dataclass

import numpy as np

from .holm import holm
from .intervals import Estimate, estimates
from .mcnemar import mcnemar
from .metrics import RATE_REASONS, predicted_labels, ratio
from .resampling import PatientBootstrap, Reweighted
from .reservations import FEW

NO_THRESHOLD = "a model has no threshold"


@dataclass(frozen=True)
class DecisionComparison:
    """Predicted labels of two models on the same cases, by label.

    Attributes:
        sensitivity, specificity: L differences, first minus second.
        only_first, only_second: (L,) cases with known truth of which one model alone predicts the label rightly.
        p: (L,) of `mcnemar` over these; NaN where a model has no threshold or a class too few patients.
        adjusted: (L,) the same by Holm over the labels.
    """

    sensitivity: list[Estimate]
    specificity: list[Estimate]
    only_first: np.ndarray
    only_second: np.ndarray
    p: np.ndarray
    adjusted: np.ndarray


def compare_decisions(
    truth: np.ndarray,
    scores: tuple[np.ndarray, np.ndarray],
    thresholds: tuple[np.ndarray, np.ndarray],
    bootstrap: PatientBootstrap,
) -> DecisionComparison:
    """Compare two models at their thresholds.

    Args:
        truth: (N, L) of 0, 1, NaN.
        scores: Of both models, (N, L) each.
        thresholds: Of both models, (L,) each; NaN where there is none.
        bootstrap: The N cases' patients.
    """
    first, second = (predicted_labels(*pair) == truth for pair in zip(scores, thresholds))
    compared = ~np.isnan(truth) & ~np.isnan(thresholds[0] + thresholds[1])
    gap = np.where(compared, first.astype(np.int8) - second, 0)
    rates = {"sensitivity": compared & (truth == 1), "specificity": compared & (truth == 0)}
    values = {name: ratio((gap * cases).sum(axis=0), cases.sum(axis=0)) for name, cases in rates.items()}
    drawn = bootstrap.drawn(lambda weights: _differences(gap, rates, weights))
    found = {}
    for name, cases in rates.items():
        why = [NO_THRESHOLD if np.isnan(sum(pair)) else RATE_REASONS[name] for pair in zip(*thresholds)]
        found[name] = estimates(values[name], drawn[name], why, [bootstrap.having(column) for column in cases.T])
    rare = bootstrap.smaller_class(np.where(compared, truth, np.nan)) < FEW
    p = np.array([mcnemar(g[known], bootstrap.index[known]) for g, known in zip(gap.T, compared.T)])
    p[rare] = np.nan
    return DecisionComparison(
        sensitivity=found["sensitivity"],
        specificity=found["specificity"],
        only_first=(gap > 0).sum(axis=0),
        only_second=(gap < 0).sum(axis=0),
        p=p,
        adjusted=holm(p),
    )


def _differences(gap: np.ndarray, rates: dict[str, np.ndarray], weights: Reweighted) -> dict[str, np.ndarray]:
    columns = [part for cases in rates.values() for part in (gap * cases, cases)]
    sums = np.split(weights.sums(np.concatenate(columns, axis=1)), len(columns), axis=1)
    return {name: ratio(sums[2 * place], sums[2 * place + 1]) for place, name in enumerate(rates)}
