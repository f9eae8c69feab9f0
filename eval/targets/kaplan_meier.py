"""Kaplan-Meier's estimate under weights of cases, of events and of censoring."""

from typing import NamedTuple

import numpy as np


class Curve(NamedTuple):
    """A step function that begins at 1.

    Attributes:
        times: (U,) rising times at which somebody had an event or was censored.
        values: (U, R) from each on, of R resamples.
        at_risk: (U, R) weight of the cases whose time is not shorter.
    """

    times: np.ndarray
    values: np.ndarray
    at_risk: np.ndarray

    def at(self, when: np.ndarray) -> np.ndarray:
        """Return (len(when), R) values."""
        place = np.searchsorted(self.times, when, side="right")
        return np.concatenate([np.ones((1, self.values.shape[1])), self.values])[place]


def kaplan_meier(time: np.ndarray, event: np.ndarray, weights: np.ndarray, censoring: bool = False) -> Curve:
    """Return the event-free probability, or with `censoring` that of not being censored.

    Events come before censorings of the same time.

    Args:
        time: (N,).
        event: (N,) boolean.
        weights: (N, R).
        censoring: Whether the distribution of censoring is wanted.
    """
    times, place = np.unique(time, return_inverse=True)
    sums = np.zeros((2, len(times), weights.shape[1]))
    np.add.at(sums[0], place[event], weights[event])
    np.add.at(sums[1], place[~event], weights[~event])
    at_risk = sums.sum(axis=0)[::-1].cumsum(axis=0)[::-1]
    lost, among = (sums[1], at_risk - sums[0]) if censoring else (sums[0], at_risk)
    kept = 1 - np.divide(lost, among, out=np.zeros_like(lost), where=lost > 0)
    return Curve(times, kept.cumprod(axis=0), at_risk)
