"""The nearest cases by cosine, never of the same patient."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .identification import unit_rows

_BLOCK = 512  # queries whose similarities to all cases are held at once


class Near(NamedTuple):
    """The k nearest cases of Q queries, nearest first.

    Attributes:
        rows: (Q, k) rows of the library; -1 where there are no more of other patients.
        likeness: (Q, k) cosine; NaN there.
    """

    rows: np.ndarray
    likeness: np.ndarray


def nearest(
    queries: np.ndarray, library: np.ndarray, whose: Sequence[str], of_library: Sequence[str], k: int
) -> Near:  # fmt: skip
    """Find the k nearest cases of other patients; of equally near ones the first in the library comes first.

    Args:
        queries: (Q, D).
        library: (M, D).
        whose: Q patients.
        of_library: M patients.
        k: How many.
    """
    asked, known = (unit_rows(np.asarray(each, np.float64)) for each in (queries, library))
    number = np.unique(np.concatenate([np.asarray(whose, str), np.asarray(of_library, str)]), return_inverse=True)[1]
    patient, owner = number[: len(asked)], number[len(asked) :]
    rows, likeness = np.full((len(asked), k), -1), np.full((len(asked), k), np.nan)
    for start in range(0, len(asked), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(asked)))
        cosine = asked[block] @ known.T
        cosine[patient[block][:, None] == owner[None, :]] = -np.inf
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(cosine, order, axis=1)
        there = np.isfinite(found)
        rows[block, : order.shape[1]] = np.where(there, order, -1)
        likeness[block, : order.shape[1]] = np.where(there, found, np.nan)
    return Near(rows, likeness)
