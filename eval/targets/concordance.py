"""Harrell's and Uno's concordance of risks with times (Harrell 1982, JAMA 247:2543; Uno 2011, Stat. Med. 30:1105)."""

from typing import NamedTuple

import numpy as np

from ..statistics.metrics import ratio

TIED = 1e-8  # risks that differ by less are equal, as in scikit-survival
_CHUNK = 20_000_000  # pairs held at once


class Pairs(NamedTuple):
    """What is known of N x N pairs of cases, without holding all pairs at once.

    Attributes:
        time, event, risk: (N,) of the cases; the event is boolean.
    """

    time: np.ndarray
    event: np.ndarray
    risk: np.ndarray

    def sums(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return concordant and comparable weight after each case, (N, R) each, for (N, R) weights of cases.

        A case with an event is comparable with those whose time is longer, and with those censored at the same time.
        Equal risks count one half.
        """
        concordant, comparable = np.zeros((2, *weights.shape))
        rows = np.flatnonzero(self.event)
        step = max(1, _CHUNK // max(1, len(self.time)))
        weights = weights.astype(np.float32)  # small integers and halves: their sums are exact
        for start in range(0, len(rows), step):
            own = rows[start : start + step]
            later = (self.time > self.time[own, None]) | ((self.time == self.time[own, None]) & ~self.event)
            gap = self.risk[own, None] - self.risk
            right = np.where(np.abs(gap) <= TIED, np.float32(0.5), (gap > 0).astype(np.float32)) * later
            concordant[own] = right @ weights
            comparable[own] = later.astype(np.float32) @ weights
        return concordant, comparable


def harrell(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    """Return the share of comparable pairs whose risks are in the right order; NaN without any."""
    concordant, comparable = Pairs(time, event, risk).sums(np.ones((len(time), 1)))
    return float(ratio(concordant.sum(), comparable.sum()))
