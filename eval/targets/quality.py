"""One number per target, by which a training chooses its epoch."""

import numpy as np

from ...datasets.manifest.tables import Ordinal, Regression, Target


def quality_of(target: Target, truth: np.ndarray, scores: np.ndarray) -> float:
    """Return how good scores are, 1 for perfect ones and about 0 by chance; -infinity where that is undefined.

    Args:
        target: What was asked.
        truth: (N, T) of known truth.
        scores: (N, S).
    """
    if not len(truth):
        return -float("inf")
    if isinstance(target, Regression):
        from .regression_metrics import case_sums, regression_values

        found = regression_values(case_sums(truth[:, 0], scores[:, 0]).sum(axis=0, keepdims=True))["concordance"][0]
    elif isinstance(target, Ordinal):
        from .ordinal_metrics import confusion_of, ordinal_values

        (grade,) = target.decided(scores).values()
        grades = int(max(truth.max(), target.highest)) + 1
        found = ordinal_values(confusion_of(truth[:, 0], grade, grades)[None])["kappa_quadratic"][0]
    else:
        from .concordance import harrell

        found = 2 * harrell(truth[:, 0], truth[:, 1] == 1, scores[:, 0]) - 1
    return -float("inf") if np.isnan(found) else float(found)
