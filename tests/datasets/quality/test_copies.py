"""Of cases that show the same image one stays, the first by rank."""

import numpy as np
import pandas as pd
from clinvit.datasets.quality.copies import Copy, copies


def pairs(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["a", "b", "likeness", "equal"]).astype({"equal": bool})


def test_of_equal_ones_the_first_by_rank_stays():
    equal = pairs((0, 3, 1.0, True), (0, 5, 1.0, True), (1, 4, 1.0, True))
    assert copies(equal, np.arange(6)) == {3: Copy(0, 1, True), 5: Copy(0, 1, True), 4: Copy(1, 1, True)}
    assert copies(equal, -np.arange(6)) == {0: Copy(5, 1, True), 3: Copy(5, 1, True), 1: Copy(4, 1, True)}


def test_what_is_like_a_copy_only_stays():
    chain = pairs((0, 1, 0.95, False), (1, 2, 0.96, False))
    assert copies(chain, np.arange(3)) == {1: Copy(0, 0.95, False)}
    assert copies(chain, np.array([1, 0, 2])) == {0: Copy(1, 0.95, False), 2: Copy(1, 0.96, False)}


def test_equal_ones_of_a_copy_go_with_it():
    both = pairs((0, 2, 1.0, True), (0, 1, 0.97, False))
    assert copies(both, np.arange(3)) == {1: Copy(0, 0.97, False), 2: Copy(0, 1, True)}
    assert copies(both, np.array([1, 0, 2])) == {0: Copy(1, 0.97, False), 2: Copy(1, 0.97, False)}
    assert copies(both, np.array([2, 1, 0])) == {0: Copy(2, 1, True), 1: Copy(2, 0.97, False)}
    assert copies(pairs(), np.arange(3)) == {}
