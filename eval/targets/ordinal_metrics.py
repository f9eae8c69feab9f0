"""Metrics of predicted grades: weighted kappa (Cohen 1968), errors in grades, and the AUROC of each threshold."""

import numpy as np

from ..statistics.intervals import auroc_estimates, proportions
from ..statistics.metrics import auroc, ratio, reasons
from ..statistics.resampling import PatientBootstrap, Reweighted
from .measured import Measured, nothing

METRICS = ("kappa_quadratic", "kappa_linear", "grade_mae", "grade_accuracy", "within_one")
NAMES = {
    "kappa_quadratic": "Weighted kappa, quadratic", "kappa_linear": "Weighted kappa, linear",
    "grade_mae": "Mean absolute error, grades", "grade_accuracy": "Right grade", "within_one": "Within one grade",
}  # fmt: skip
AUROC = "auroc_atleast_"  # and the grade


def ordinal_values(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return metrics, (R,) each, from (R, G, G) counts by truth (rows) and predicted grade."""
    confusion = confusion.astype(np.float64)
    total = confusion.sum(axis=(1, 2))
    grades = np.arange(confusion.shape[1])
    gap = np.abs(grades[:, None] - grades)
    rows, columns = confusion.sum(axis=2), confusion.sum(axis=1)
    expected = rows[:, :, None] * columns[:, None, :]

    def kappa(cost: np.ndarray) -> np.ndarray:
        return 1 - ratio((confusion * cost).sum(axis=(1, 2)) * total, (expected * cost).sum(axis=(1, 2)))

    return {
        "kappa_quadratic": kappa(gap**2),
        "kappa_linear": kappa(gap),
        "grade_mae": ratio((confusion * gap).sum(axis=(1, 2)), total),
        "grade_accuracy": ratio((confusion * (gap == 0)).sum(axis=(1, 2)), total),
        "within_one": ratio((confusion * (gap <= 1)).sum(axis=(1, 2)), total),
    }


def confusion_of(truth: np.ndarray, grade: np.ndarray, grades: int) -> np.ndarray:
    """Return (G, G) counts by truth (rows) and predicted grade."""
    cells = np.bincount((truth * grades + grade).astype(int), minlength=grades**2)
    return cells.reshape(grades, grades)


def ordinal_measured(
    truth: np.ndarray, grade: np.ndarray, atleast: np.ndarray, bootstrap: PatientBootstrap
) -> Measured:
    """Return kappas, errors in grades and the AUROC of each threshold with intervals by patient.

    Args:
        truth: (N,) integers 0, 1, ... of cases with known truth.
        grade: (N,) the predicted ones.
        atleast: (N, K) probabilities of grade 1 or more, 2 or more, ...
        bootstrap: Their patients.
    """
    if not len(truth):
        return nothing(METRICS, "no scored case with known truth")
    grades = int(max(truth.max(), grade.max(), atleast.shape[1])) + 1
    cell = (truth * grades + grade).astype(int)[:, None]

    def of(weights: Reweighted) -> dict[str, np.ndarray]:
        found = ordinal_values(weights.tallies(cell, grades**2).reshape(-1, grades, grades))
        return {"all": np.column_stack([found[metric] for metric in METRICS])}

    own = ordinal_values(confusion_of(truth, grade, grades)[None])
    values = np.array([own[metric][0] for metric in METRICS])
    why = "truth and predicted grade are the same one in all cases"
    over = (truth[:, None] > np.arange(atleast.shape[1])).astype(np.float64)
    drawn, curves = bootstrap.drawn(of)["all"], {}
    if atleast.shape[1]:
        ranks = bootstrap.drawn(lambda weights: {"auroc": weights.ranks(over, atleast)["auroc"]})["auroc"]
        own_aurocs, why_not = auroc(over, atleast), reasons(over)
        exact = auroc_estimates(over, own_aurocs, ranks, why_not, bootstrap)
        curves = {f"{AUROC}{k}": estimate for k, estimate in enumerate(exact, 1)}
        values = np.concatenate([values, own_aurocs])
        drawn = drawn.joined(ranks)
    # Shares have the interval of proportions, which holds where nearly all grades are right.
    apart = np.abs(truth - grade)
    shares = proportions(np.column_stack([apart == 0, apart <= 1]).astype(np.float64), bootstrap, ["", ""])
    curves |= dict(zip(("grade_accuracy", "within_one"), shares))
    few = (*[bootstrap.size] * len(METRICS), *bootstrap.smaller_class(over))
    texts = (*[why] * len(METRICS), *(reasons(over) if atleast.shape[1] else ()))
    names = (*METRICS, *(name for name in curves if name not in METRICS))
    return Measured(names, values, drawn, texts, few, curves)
