"""Are the nearest cases alike? Precision of retrieval, and labels by the neighbours' vote, by patient.

Precision at k is the share of the k nearest cases of other patients that have the query's label (as image retrieval in
pathology reports it: Chen et al., Nature Biomedical Engineering 2022, SISH). Neighbours whose label is unknown do not
count. Chance is what a random neighbour would give.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .intervals import Estimate, auroc_estimates, percentile
from .metrics import auroc
from .resampling import PatientBootstrap

RESAMPLES = 2000
# In simulation a bootstrap by patient covers where the library is of other patients; queries that are neighbours of
# each other share more than their patient.
SHARED = "no interval: the queries are neighbours of one another"


@dataclass(frozen=True)
class Retrieval:
    """How alike the neighbours of the queries are in one label.

    Attributes:
        label: Its name.
        queries: Queries whose label is known and that have a neighbour whose label is known.
        positives: Of these, how many are positive.
        precision: Mean over these queries.
        of_positives: The same, of positive queries alone.
        of_negatives: Of negative ones.
        chance: The mean share of the library that has the query's label.
        auroc: Of the share of positive neighbours.
    """

    label: str
    queries: int
    positives: int
    precision: Estimate
    of_positives: Estimate
    of_negatives: Estimate
    chance: float
    auroc: Estimate


def retrieval(
    label: str, near: np.ndarray, truth: np.ndarray, of_library: np.ndarray, patients: Sequence[str],
    shared: bool = False, seed: int = 0,
) -> Retrieval:  # fmt: skip
    """Judge the neighbours of Q queries by one label.

    Args:
        label: Its name.
        near: (Q, k) rows of the library, -1 for none.
        truth: (Q,) of 0, 1 and NaN.
        of_library: (M,) the same of the library.
        patients: Q names; intervals are by patient.
        shared: Whether queries are in the library: then there are no intervals.
        seed: Of the resamples.
    """
    votes = np.where(near >= 0, of_library[near], np.nan)
    known = ~np.isnan(truth) & ~np.isnan(votes).all(axis=1)
    truth, votes, names = truth[known], votes[known], np.asarray(patients, dtype=object)[known]
    if not len(truth):
        none = Estimate(float("nan"), reason="no query and neighbour whose label is known")
        return Retrieval(label, 0, 0, none, none, none, float("nan"), none)
    alike = np.where(np.isnan(votes), np.nan, votes == truth[:, None])
    precision = np.nanmean(alike, axis=1)
    prevalence = float(np.nanmean(of_library))
    chance = float(np.where(truth == 1, prevalence, 1 - prevalence).mean())
    parts = [np.ones(len(truth), bool), truth == 1, truth == 0]
    whole, positive, negative = (_mean(precision[part], names[part], shared, seed) for part in parts)
    area = _vote(truth, np.nanmean(votes, axis=1), names, shared, seed)
    return Retrieval(label, len(truth), int((truth == 1).sum()), whole, positive, negative, chance, area)


def _mean(values: np.ndarray, patients: np.ndarray, shared: bool, seed: int) -> Estimate:
    """Return the mean of (n,) values with its interval by patient."""
    if not len(values):
        return Estimate(float("nan"), reason="no such query")
    mean = float(values.mean())
    if shared:
        return Estimate(mean, reason=SHARED)
    bootstrap = PatientBootstrap(patients.tolist(), RESAMPLES, seed)
    sums = bootstrap.sums(np.column_stack([values, np.ones(len(values))]))
    return percentile(mean, sums[:, 0] / sums[:, 1], few=bootstrap.size)


def _vote(truth: np.ndarray, votes: np.ndarray, patients: np.ndarray, shared: bool, seed: int) -> Estimate:
    """Return the AUROC of the share of positive neighbours."""
    value = auroc(truth[:, None], votes[:, None])
    reason = "" if {0.0, 1.0} <= set(truth) else "one class only"
    if shared:
        return Estimate(float(value[0]), reason=reason or SHARED)
    bootstrap = PatientBootstrap(patients.tolist(), RESAMPLES, seed)
    drawn = bootstrap.drawn(lambda cases: {"auroc": cases.ranks(truth[:, None], votes[:, None])["auroc"]})["auroc"]
    return auroc_estimates(truth[:, None], value, drawn, [reason], bootstrap)[0]
