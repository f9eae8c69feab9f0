"""Exact bounds: as SciPy's, with their coverage where patients have several cases, and the published sample sizes."""

import numpy as np
import pytest
from clinvit.eval.statistics.exact import (
    cases_for_width,
    cases_to_show,
    chance_to_show,
    effective_cases,
    exact_bounds,
)
from clinvit.eval.statistics.intervals import wilson
from scipy.stats import binomtest


@pytest.mark.parametrize(("hits", "cases"), [(0, 7), (7, 7), (3, 7), (88, 123), (1, 1), (0, 1)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_bounds_are_clopper_and_pearsons(hits, cases, confidence):
    low, high = exact_bounds(hits, cases, confidence)
    test = {side: binomtest(hits, cases, alternative=side).proportion_ci(confidence) for side in ("greater", "less")}
    assert low == pytest.approx(test["greater"].low, abs=1e-12)
    assert high == pytest.approx(test["less"].high, abs=1e-12)


def test_without_a_case_nothing_is_known():
    assert exact_bounds(0, 0, 0.95) == (0.0, 1.0)


def test_cases_of_one_patient_count_as_fewer():
    hits = np.tile([True, False, True, True], 25)
    assert effective_cases(hits, np.arange(100), 0.95) == 100
    copies = np.repeat(hits, 3)
    assert effective_cases(copies, np.repeat(np.arange(100), 3), 0.95) == pytest.approx(100, rel=0.03)
    assert effective_cases(np.ones(300, dtype=bool), np.repeat(np.arange(100), 3), 0.95) == 100
    assert effective_cases(np.array([True, False]), np.zeros(2, dtype=int), 0.95) == 1


@pytest.mark.parametrize("patients", [15, 60])
@pytest.mark.parametrize("rate", [0.7, 0.95])
def test_the_lower_bound_covers_by_patient(patients, rate):
    generator, below, rounds = np.random.default_rng(0), 0, 2000
    for _ in range(rounds):
        own = generator.beta(3 * rate, 3 * (1 - rate), size=patients)  # patients differ
        sizes = generator.integers(1, 5, size=patients)
        patient = np.repeat(np.arange(patients), sizes)
        hits = generator.random(len(patient)) < own[patient]
        effective = effective_cases(hits, patient, 0.95)
        below += exact_bounds(hits.mean() * effective, effective, 0.95)[0] <= rate
    assert below / rounds >= 0.94


@pytest.mark.parametrize(
    ("floor", "rate", "cases"), [(0.05, 0.25, 16), (0.1, 0.3, 25), (0.05, 0.2, 27), (0.2, 0.4, 35)]
)
def test_the_smallest_number_is_that_of_published_tables(floor, rate, cases):
    """A'Hern 2001 (Statistics in Medicine 20:859), table 1: alpha 0.05, power 0.8."""
    assert chance_to_show(cases, rate, floor, 0.95) >= 0.8
    assert all(chance_to_show(fewer, rate, floor, 0.95) < 0.8 for fewer in range(1, cases))
    stays = cases_to_show(rate, floor, 0.95)
    assert all(chance_to_show(more, rate, floor, 0.95) >= 0.8 for more in range(stays, 3 * stays))
    assert chance_to_show(stays - 1, rate, floor, 0.95) < 0.8


def test_without_a_failure_it_is_the_rule_of_three():
    assert cases_to_show(1.0, 0.95, 0.95) == 59
    assert exact_bounds(59, 59, 0.95)[0] >= 0.95 > exact_bounds(58, 58, 0.95)[0]


def test_no_number_shows_what_is_not_so():
    assert cases_to_show(0.9, 0.9, 0.95) is None and cases_to_show(0.8, 0.9, 0.95) is None
    assert cases_to_show(0.90001, 0.9, 0.95) is None


@pytest.mark.parametrize(("rate", "half"), [(0.9, 0.05), (0.5, 0.1), (0.02, 0.01)])
def test_a_width(rate, half):
    cases = cases_for_width(rate, half)
    widths = [(high - low) / 2 for low, high in (wilson(rate * n, n) for n in (cases - 1, cases))]
    assert widths[1] <= half < widths[0]
