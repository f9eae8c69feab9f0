"""Which of several cases that show the same image stays."""

from typing import NamedTuple

import numpy as np
import pandas as pd


class Copy(NamedTuple):
    """Of which case another one is a copy.

    Attributes:
        of: Row of the case that stays.
        likeness: Correlation of the two, 1 where equal.
        equal: Whether their pixels are equal.
    """

    of: int
    likeness: float
    equal: bool


def copies(pairs: pd.DataFrame, rank: np.ndarray) -> dict[int, Copy]:
    """Return the rows that are copies of a case that stays.

    Of equal ones the first by rank stays, for all of them. A case that is merely alike goes only where a case that it
    is alike to stays: of A like B like C, where A is not like C, both A and C stay if A comes first.

    Args:
        pairs: `a, b, likeness, equal`, as of `duplicates`: equal ones each with the first of their kind, alike ones
            between those firsts.
        rank: (N,) of all rows; the lower stays. No two are equal.
    """
    equal = pairs[pairs["equal"]]
    group: dict[int, list[int]] = {}
    for first, other in zip(equal["a"], equal["b"]):
        group.setdefault(first, [first]).append(other)
    alike: dict[int, dict[int, float]] = {}
    for pair in pairs[~pairs["equal"]].itertuples():
        alike.setdefault(pair.a, {})[pair.b] = alike.setdefault(pair.b, {})[pair.a] = pair.likeness
    leader = {first: min(group.get(first, [first]), key=rank.__getitem__) for first in {*group, *alike}}
    found: dict[int, Copy] = {}
    for first in sorted(leader, key=lambda each: rank[leader[each]]):
        near = {other: likeness for other, likeness in alike.get(first, {}).items() if leader[other] not in found}
        before = [other for other in near if rank[leader[other]] < rank[leader[first]]]
        members = group.get(first, [first])
        if before:
            best = max(before, key=lambda other: (near[other], -rank[leader[other]]))
            found |= {row: Copy(leader[best], near[best], False) for row in members}
        else:
            found |= {row: Copy(leader[first], 1.0, True) for row in members if row != leader[first]}
    return found
