"""Can a stranger tell who was in the training? The attack by the loss (Yeom et al. 2018, CSF)."""

from collections.abc import Sequence

import numpy as np

from .intervals import Estimate, auroc_estimates
from .metrics import auroc
from .resampling import PatientBootstrap

_SMALLEST = np.finfo(np.float64).eps


def losses(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the mean binary cross-entropy over the known labels of each case; NaN where none is known.

    Args:
        truth: (N, L) of 0, 1 and NaN.
        scores: (N, L) probabilities.
    """
    held = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    each = -np.where(truth == 1, np.log(held), np.log1p(-held))
    known = ~np.isnan(truth) & ~np.isnan(scores)
    total, count = np.where(known, each, 0).sum(axis=1), known.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def membership(member: np.ndarray, loss: np.ndarray, patients: Sequence[str], *, seed: int = 0) -> Estimate:
    """Return the AUROC of small losses for having been trained on, with an interval by patient; 0.5 tells nothing.

    Args:
        member: (N,) whether a case was trained on.
        loss: (N,), NaN where unknown: such cases are left out.
        patients: N names.
        seed: Of the resamples of patients.
    """
    known = ~np.isnan(loss)
    truth, scores = member[known].astype(float)[:, None], -loss[known][:, None]
    if len(np.unique(truth)) < 2:
        why = "no case was trained on" if not truth.any() else "all cases were trained on: there is nobody to compare"
        return Estimate(float("nan"), reason=why)
    bootstrap = PatientBootstrap(np.asarray(patients, str)[known].tolist(), seed=seed)
    drawn = bootstrap.drawn(lambda weights: weights.ranks(truth, scores))["auroc"]
    return auroc_estimates(truth, auroc(truth, scores), drawn, [""], bootstrap)[0]
