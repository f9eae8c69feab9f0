"""Classes that exclude each other, beside findings that do not: `view=AP`, `view=PA` are of the group `view`.

The group stands in the names of the labels, as one-hot columns are named by scikit-learn's DictVectorizer: so it goes
with them from the manifest through loss, probabilities, tables and reports. A label that is alone with its group is a
finding like any other.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .errors import DataError

SIGN = "="
_GROUPED = re.compile(r"\s*([^=<>!~≤≥]*[^=<>!~≤≥\s])\s*=\s*([^=\s].*)")  # `age>=60` compares, and is a finding


class Part(NamedTuple):
    """Labels that are judged together.

    Attributes:
        group: Name; empty for findings, and for classes of a set that is exclusive as a whole.
        places: Of the labels.
        exclusive: Whether exactly one of them is true.
    """

    group: str
    places: list[int]
    exclusive: bool


def group_of(label: str) -> str:
    """Return the group that a label names; empty for none, and where it compares, as `age>=60` does."""
    found = _GROUPED.fullmatch(label)
    return found[1].strip() if found else ""


def groups_of(labels: Sequence[str]) -> dict[str, list[int]]:
    """Return the places of the classes of each group, of those with two or more."""
    found: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        if group := group_of(label):
            found.setdefault(group, []).append(place)
    return {group: places for group, places in found.items() if len(places) > 1}


def parts_of(labels: Sequence[str], exclusive: bool = False) -> list[Part]:
    """Return the labels in parts: each group, then all findings; of a set that is exclusive as a whole one part."""
    if exclusive:
        return [Part("", list(range(len(labels))), True)]
    groups = groups_of(labels)
    grouped = {place for places in groups.values() for place in places}
    alone = [place for place in range(len(labels)) if place not in grouped]
    parts = [Part(group, places, True) for group, places in groups.items()]
    return [*parts, Part("", alone, False)] if alone or not parts else parts


def findings_of(labels: Sequence[str]) -> list[str]:
    """Return the labels of no group."""
    return [labels[place] for part in parts_of(labels) if not part.exclusive for place in part.places]


def one_group(labels: Sequence[str]) -> bool:
    """Return whether all labels are the classes of one group."""
    return [len(places) for places in groups_of(labels).values()] == [len(labels)]


def is_mixed(labels: Sequence[str]) -> bool:
    """Return whether there is a group beside other labels."""
    return bool(groups_of(labels)) and not one_group(labels)


def settled(where: str, labels: Sequence[str], truth: np.ndarray) -> np.ndarray:
    """Return (N, L) truth in which a class that is known to be true makes the others of its group known to be false.

    A group of which no class is known to be true is unknown as a whole.

    Args:
        where: What messages call the table.
        labels: L names.
        truth: Of 0, 1 and NaN.

    Raises:
        DataError: Of a group two classes are 1, or all are 0.
    """
    truth = truth.copy()
    for group, places in groups_of(labels).items():
        own = truth[:, places]
        ones = (own == 1).sum(axis=1)
        wrong = np.flatnonzero((ones > 1) | ((ones == 0) & ~np.isnan(own).any(axis=1)))
        if len(wrong):
            names = ", ".join(labels[place] for place in places)
            raise DataError(
                f"{where}: row {wrong[0] + 2}: {ones[wrong[0]]} of the classes of {group!r} are 1 ({names}), where "
                f"exactly one is ({len(wrong):,} such rows). Mend them, leave all empty (unknown), or name the labels "
                f"without {SIGN!r} if they do not exclude each other."
            )
        known = (ones == 1)[:, None]
        truth[:, places] = np.where(known, (own == 1).astype(np.float64), np.nan)
    return truth
