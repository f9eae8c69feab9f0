"""Scalings applied to scores: NumPy alone, for `clinvit-runtime` too. `scaling` fits them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Scores of exactly 0 or 1 have no logit. They are moved in by less than a network's float32 or a table can tell.
_LOWEST, _HIGHEST = 1e-50, 1 - 5e-8


@dataclass(frozen=True)
class Scaling:
    """What is done to one label's scores: sigmoid(slope x logit + intercept).

    Attributes:
        method: `temperature`, `platt`, `intercept`, or `none`, which leaves scores as they are.
        slope, intercept: The temperature is 1 / slope; of exclusive classes the slope is of the log-probabilities.
        split: What it was fitted on.
        cases: Scored cases with known truth there.
        reason: Why the method is `none`.
    """

    method: str
    slope: float
    intercept: float
    split: str
    cases: int
    reason: str = ""


def scaled(scores: np.ndarray, scalings: Sequence[Scaling], exclusive: bool = False) -> np.ndarray:
    """Return (N, L) calibrated probabilities of (N, L) probabilities; NaN stays NaN.

    Args:
        scores: As the model gave them.
        scalings: L of them, as `fit_scaling` gave them.
        exclusive: The labels are exclusive classes.
    """
    asked = np.array([scaling.method != "none" for scaling in scalings])
    slope = np.array([scaling.slope for scaling in scalings])
    intercept = np.array([scaling.intercept for scaling in scalings])
    if exclusive:
        new = np.exp(_normed(slope * log_probabilities(scores)))
    else:
        values = slope * logits(scores) + intercept
        small = np.exp(-np.abs(values))  # which does not overflow
        new = np.where(values < 0, small, 1.0) / (1 + small)
    return np.where(asked, new, scores)


def logits(scores: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)) of probabilities, as a table keeps them."""
    kept = _kept(scores)
    return np.log(kept) - np.log1p(-kept)


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    """Return log-probabilities (N, L) of rows that add up to 1 but for rounding."""
    return _normed(np.log(_kept(scores)))


def _normed(logs: np.ndarray) -> np.ndarray:
    """Return logarithms (N, L) shifted so that their exponentials add up to 1 in each row."""
    logs = logs - logs.max(axis=1, keepdims=True)
    return logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))


def _kept(scores: np.ndarray) -> np.ndarray:
    """Round scores as a predictions table keeps them, to seven digits.

    `finetune` scales those of its table, `predict` fresh ones, and near 1 the digits that the table drops would show.
    """
    return np.clip(np.where(scores >= 0.1, np.round(scores, 7), scores), _LOWEST, _HIGHEST)
