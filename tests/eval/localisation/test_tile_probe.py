"""Paired intervals of a linear probe on tiles."""

import numpy as np
import pytest
from clinvit.eval.localisation.tile_probe import LEAST_PATIENTS, probe_estimates
from scipy.stats import ttest_rel


def test_the_difference_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0.6, 1, 14), rng.uniform(0.5, 0.9, 14)
    _, _, gain = probe_estimates([f"p{k}" for k in range(14)], first, second)
    known = ttest_rel(first, second).confidence_interval(0.95)
    assert (gain.low, gain.high) == pytest.approx((known.low, known.high), abs=1e-12)
    assert gain.value == pytest.approx((first - second).mean())


def test_slides_of_one_patient_count_once():
    patients = [*"abcdefghij", "a"]
    first = np.linspace(0.5, 0.9, 11)
    one, *_ = probe_estimates(patients, first, first)
    own = [(first[0] + first[10]) / 2, *first[1:10]]
    assert one.value == pytest.approx(np.mean(own)) and one.low < one.value < one.high


def test_few_patients_get_no_interval_and_no_slide_no_number():
    few, *_ = probe_estimates(["a"] * 30, np.linspace(0.5, 0.9, 30), np.zeros(30))
    assert few.value == pytest.approx(0.7) and np.isnan(few.low) and "1 patients" in few.reason
    none, *_ = probe_estimates([], [], [])
    assert np.isnan(none.value) and none.reason


@pytest.mark.parametrize("slides", [LEAST_PATIENTS, 12, 30])
def test_the_interval_of_the_difference_covers_it(slides):
    """Slides differ in difficulty; AUROCs pile up near 1, so that differences are skewed."""
    rng = np.random.default_rng(slides)
    runs, covered = 4000, 0
    difficulty = rng.beta(6, 1.5, (runs, slides))
    first = 1 - (1 - difficulty) * rng.beta(2, 4, (runs, slides))
    second = 1 - (1 - difficulty) * rng.beta(3, 3, (runs, slides))
    large = rng.beta(6, 1.5, 10**6)
    true = ((1 - large) * (rng.beta(3, 3, 10**6) - rng.beta(2, 4, 10**6))).mean()
    names = [str(k) for k in range(slides)]
    for one, other in zip(first, second):
        gain = probe_estimates(names, one, other)[2]
        covered += gain.low <= true <= gain.high
    assert 0.93 < covered / runs < 0.97
