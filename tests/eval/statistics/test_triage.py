"""Triage: what it promises holds in simulation, one case of each patient counts, and nothing is chosen on test."""

import numpy as np
import pytest
from clinvit.core.errors import UserError
from clinvit.eval.statistics.resampling import PatientBootstrap
from clinvit.eval.statistics.triage import EVERY, Promise, cases_with_one_wrong, read_promise, triage, triage_cuts
from scipy.stats import binom, norm


def drawn(random, cases, prevalence, distance):
    truth = (random.random(cases) < prevalence).astype(float)
    return truth, norm.cdf(random.normal(size=cases) + distance * (truth - 0.5))


def true_values(cut, prevalence, distance):
    """PPV at or above and NPV below a threshold, in the population."""
    z = norm.ppf(min(cut, 1))
    found, alarms = (norm.sf(z - distance * half) for half in (0.5, -0.5))
    ppv = prevalence * found / (prevalence * found + (1 - prevalence) * alarms)
    spared, missed = (1 - prevalence) * (1 - alarms), prevalence * (1 - found)
    return ppv, spared / (spared + missed)


@pytest.mark.parametrize(
    ("cases", "prevalence", "distance", "promise"),
    [
        (300, 0.3, 2.5, Promise(0.9, 0.95)),
        (800, 0.1, 2.5, Promise(0.8, 0.99)),
        (200, 0.5, 0.0, Promise(0.501, 0.501)),  # of a useless score nothing better holds
        (200, 0.5, 1.0, Promise(ppv=0.8, delta=0.1)),
    ],
)
def test_the_promise_is_broken_no_more_often_than_delta(cases, prevalence, distance, promise):
    random, broken, decided, runs = np.random.default_rng(0), 0, 0, 400
    for _ in range(runs):
        upper, lower = triage_cuts(*drawn(random, cases, prevalence, distance), promise)
        ppv, npv = (
            true_values(upper.threshold, prevalence, distance)[0],
            true_values(lower.threshold, prevalence, distance)[1],
        )
        broken += bool(ppv < (promise.ppv or 0)) or bool(npv < (promise.npv or 0))
        decided += not np.isnan([upper.threshold, lower.threshold]).all()
    assert broken <= binom.isf(1e-4, runs, promise.delta)
    if distance:
        assert decided > runs / 4


def test_every_case_is_decided_at_one_threshold_where_both_promises_hold_everywhere():
    truth = np.repeat([0.0, 1.0], 200)
    upper, lower = triage_cuts(
        truth, np.concatenate([np.linspace(0, 0.6, 200), np.linspace(0.5, 1, 200)]), Promise(0.7, 0.7)
    )
    assert upper.threshold == lower.threshold


def test_where_nearly_nobody_is_ill_all_cases_may_be_called_negative():
    truth = np.zeros(300)
    truth[7] = 1
    upper, lower = triage_cuts(truth, np.random.default_rng(0).random(300), Promise(npv=0.98))
    assert lower.threshold == EVERY and (lower.right, lower.tested) == (299, 300)
    assert np.isnan(upper.threshold) and upper.reason == "not asked for"


def test_one_case_of_each_patient_counts():
    random = np.random.default_rng(0)
    truth, score = drawn(random, 60, 0.5, 6)
    repeated = np.repeat(truth, 20), np.repeat(score, 20), [f"p{i // 20}" for i in range(1200)]
    found = triage(repeated, (truth, score), PatientBootstrap(np.arange(60).astype(str), 30), Promise(0.9, 0.9))
    assert found.patients == 60
    assert found.upper.tested + found.lower.tested <= 60
    few = triage(
        (truth[:20], score[:20], repeated[2][::20]),
        (truth, score),
        PatientBootstrap(repeated[2][::20], 30),
        Promise(0.95),
    )
    assert "20 validation patients are too few" in few.upper.reason


def test_failed_cases_and_those_between_the_thresholds_are_left_to_the_reader():
    truth, score = drawn(np.random.default_rng(1), 500, 0.4, 3)
    judged_truth = np.array([1.0, 0.0, 1.0, 0.0, np.nan])
    judged = np.array([0.999, 0.001, np.nan, 0.5, 0.5])
    found = triage(
        (truth, score, np.arange(500).astype(str)),
        (judged_truth, judged),
        PatientBootstrap(list("abcde"), 30),
        Promise(0.9, 0.9),
    )
    assert found.lower.threshold < 0.5 < found.upper.threshold
    counts = {"called_positive": 1, "called_negative": 1, "left": 2, "true_positive": 1, "true_negative": 1}
    assert found.counts == counts


@pytest.mark.parametrize(("floor", "error"), [(0.9, 0.025), (0.99, 0.05), (0.5, 0.1)])
def test_the_sequence_begins_where_one_wrong_case_may_be_among_them(floor, error):
    least = cases_with_one_wrong(floor, error)
    assert binom.sf(least - 2, least, floor) <= error < binom.sf(least - 3, least - 1, floor)


def test_a_promise_is_read_and_checked():
    assert read_promise("ppv=0.9, npv=0.99,delta=0.1") == Promise(0.9, 0.99, 0.1)
    for text in ("0.9", "ppv=high", "ppv=0.9,ppv=0.8", "ppv=1.2", "delta=0.1", "npv=0.9,delta=0.7"):
        with pytest.raises(UserError, match="triage"):
            read_promise(text)
