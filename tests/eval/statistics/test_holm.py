"""Holm's correction against his procedure, step by step."""

import numpy as np
from clinvit.eval.statistics.holm import holm
from hypothesis import given
from hypothesis import strategies as st

chances = st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), max_size=8)


def test_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.04, np.nan, 0.03]), [0.06, np.nan, 0.06])
    assert holm([]).tolist() == []


@given(chances, st.floats(0.001, 0.999))
def test_rejects_as_the_step_down_procedure(p, level):
    tested = sorted(value for value in p if not np.isnan(value))
    rejected = 0
    for place, value in enumerate(tested):
        if value * (len(tested) - place) > level:
            break
        rejected += 1
    adjusted = holm(np.array(p))
    assert (np.isnan(adjusted) == np.isnan(p)).all()
    assert (adjusted <= level).sum() == rejected
    assert ((adjusted >= p) | np.isnan(p)).all()
