"""Slides unlike those of training: how far the mean of their tiles' features is from the training slides'.

Whatever the aggregator, it sees tiles; of a slide that was stained, scanned or encoded otherwise these are elsewhere.
`finetune.out_of_distribution` says how the limit is found and what it promises.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..datasets.manifest.tables import Manifest
from ..finetune.feature_limit import Limit, why_none
from ..finetune.out_of_distribution import MOST_CASES, fit_limit


def bag_mean(features: np.ndarray) -> np.ndarray:
    """Return the (D,) mean of the (N, D) features of a bag."""
    return features.mean(axis=0, dtype=np.float64)


def bag_limit(manifest: Manifest, bags: Any, trained: Sequence[int]) -> Limit | str:
    """Return beyond which mean features a bag is unlike the training bags; or why nothing says so.

    Args:
        manifest: The cases, a row per bag.
        bags: Of these.
        trained: Rows of the training bags.
    """
    rows = np.array(trained, dtype=int)
    if len(rows) > MOST_CASES:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_CASES, replace=False))
    val = np.flatnonzero(manifest.table["split"] == "val")
    patients = manifest.table["patient"].iloc[val]
    if few := why_none(len(rows), patients.nunique()):
        return few
    training, validation = (np.stack([_mean(bags, int(row)) for row in part]) for part in (rows, val))
    return fit_limit(training, validation, patients.tolist())


def _mean(bags: Any, row: int) -> np.ndarray:
    """Return the mean features of a bag, NaN where it cannot be read."""
    try:
        return bag_mean(bags.bag(row)) if not bags.reasons()[row] else np.full(bags.width, np.nan)
    except DataError:
        return np.full(bags.width, np.nan)
