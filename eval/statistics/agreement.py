"""Agreement of readers beyond chance: Cohen's kappa, plain and weighted, and Fleiss' kappa, with intervals by patient.

Cohen 1960 (Educ. Psychol. Meas. 20:37) and 1968 (Psychol. Bull. 70:213), Fleiss 1971 (Psychol. Bull. 76:378).
"""

import numpy as np

from .intervals import Estimate, percentile
from .metrics import ratio
from .resampling import PatientBootstrap
from .scaled_intervals import FISHER, on_scale

WEIGHTS = ("none", "linear", "quadratic")
_ONE = "all ratings are of one category: agreement beyond chance means nothing"


def cohen_kappa(first: np.ndarray, second: np.ndarray, bootstrap: PatientBootstrap, weights: str = "none") -> Estimate:
    """Compute the kappa of two readers of the same cases.

    Args:
        first: (N,) ratings; categories are those that either has used, in rising order.
        second: (N,) the same of the other.
        bootstrap: The N cases' patients.
        weights: Of disagreement: `none`, `linear` or `quadratic` in the order of the categories.
    """
    categories, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    size, (one, two) = len(categories), np.split(place, 2)
    cell = (one * size + two)[:, None]
    tables = np.bincount(cell[:, 0], minlength=size * size)[None]
    value = float(_kappa(tables, size, weights)[0])
    draws = _kappa(bootstrap.tallies(cell, size * size), size, weights)
    return percentile(value, draws, _ONE, bootstrap.size)


def fleiss_kappa(ratings: np.ndarray, bootstrap: PatientBootstrap) -> Estimate:
    """Compute the kappa of J readers who rated all N cases, (N, J)."""
    categories, place = np.unique(ratings, return_inverse=True)
    counts = (place.reshape(ratings.shape)[:, :, None] == np.arange(len(categories))).sum(axis=1)
    readers = ratings.shape[1]
    agreed = ((counts**2).sum(axis=1) - readers) / (readers * (readers - 1))
    values = np.column_stack([np.ones(len(agreed)), agreed, counts / readers])
    value = float(_fleiss(values.sum(axis=0)[None])[0])
    draws = _fleiss(bootstrap.sums(values))
    return on_scale(percentile(value, draws, _ONE, bootstrap.size), draws, bootstrap.size, FISHER)


def _kappa(tables: np.ndarray, size: int, weights: str) -> np.ndarray:
    """Return (R,) kappas of (R, size * size) counts."""
    tables = tables.reshape(-1, size, size).astype(np.float64)
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    cost = {"none": (apart > 0).astype(np.float64), "linear": apart, "quadratic": apart**2}[weights]
    whole = tables.sum(axis=(1, 2))
    by_chance = np.einsum("ri,rj,ij->r", tables.sum(axis=2), tables.sum(axis=1), cost)
    return 1 - ratio(np.einsum("rij,ij->r", tables, cost) * whole, by_chance)


def _fleiss(sums: np.ndarray) -> np.ndarray:
    """Return (R,) kappas of (R, 2 + C) sums of cases, agreement and shares of categories."""
    cases, agreed, shares = sums[:, :1], sums[:, 1], sums[:, 2:]
    chance = (ratio(shares, cases) ** 2).sum(axis=1)
    return ratio(ratio(agreed, cases[:, 0]) - chance, 1 - chance)
