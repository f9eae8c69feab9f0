"""Two models' decisions on the same cases: the difference of their accuracies, and McNemar's test.

McNemar 1947 (Psychometrika 12:153), in its exact form, extended to several cases of one patient by a test of signs
over patients. With one case per patient the extension is McNemar's exact test.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import convolve
from scipy.stats import binom

from ...datasets.manifest.tables import Predictions
from .classes import NO_TRUTH, decided_classes, true_classes
from .intervals import Estimate, estimates
from .metrics import ratio
from .resampling import PatientBootstrap


@dataclass(frozen=True)
class ClassComparison:
    """Decisions of two models on the same cases.

    Attributes:
        cases: How many of them have a known truth.
        accuracy: Difference of the accuracies, first minus second.
        only_first, only_second: Cases that one model alone decides rightly.
        p: Of `mcnemar`.
    """

    cases: int
    accuracy: Estimate
    only_first: int
    only_second: int
    p: float


def compare_classes(a: Predictions, b: Predictions, bootstrap: PatientBootstrap) -> ClassComparison:
    """Compare the decisions of two models with the same exclusive classes.

    Args:
        a: Scored cases of the first model.
        b: The same cases in the same order; the labels may stand in different order.
        bootstrap: The cases' patients.
    """
    known = true_classes(a) >= 0
    first, second = (decided_classes(table) == true_classes(table) for table in (a, b))
    gap = np.where(known, first.astype(int) - second, 0)
    counted = np.column_stack([gap, known])
    drawn = bootstrap.drawn(lambda weights: {"accuracy": ratio(*weights.sums(counted).T)[:, None]})["accuracy"]
    return ClassComparison(
        cases=int(known.sum()),
        accuracy=estimates(ratio(gap.sum(), known.sum())[None], drawn, [NO_TRUTH], [bootstrap.size])[0],
        only_first=int((gap > 0).sum()),
        only_second=int((gap < 0).sum()),
        p=mcnemar(gap[known], bootstrap.index[known]),
    )


def mcnemar(gap: np.ndarray, patient: np.ndarray) -> float:
    """Compute the two-sided p of the exact McNemar test by patient.

    If neither model is better, a patient's balance (cases that the first alone decides rightly minus those that the
    second alone does) is as likely to be d as -d. The chance that drawing these signs gives a total at least as far
    from 0 as the one found is summed exactly.

    Args:
        gap: (N,) of 1 (the first alone is right), -1 (the second alone is) and 0.
        patient: (N,) integers from 0.

    Returns:
        p; 1 where the models never differ in being right, NaN without cases.
    """
    if len(gap) == 0:
        return float("nan")
    balance = np.abs(np.bincount(patient, weights=gap)).astype(int)
    chance = np.ones(1)  # of each total, from the lowest to the highest
    for size, patients in zip(*np.unique(balance[balance > 0], return_counts=True)):
        step = np.zeros(2 * size * patients + 1)
        step[:: 2 * size] = binom.pmf(np.arange(patients + 1), patients, 0.5)
        chance = convolve(chance, step)  # by FFT where that is faster: long arrays
    total = np.arange(len(chance)) - len(chance) // 2
    return float(np.clip(chance[np.abs(total) >= abs(gap.sum())].sum(), 0, 1))
