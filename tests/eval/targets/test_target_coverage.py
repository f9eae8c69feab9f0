"""Intervals by patient of numbers, grades and times cover the value of the population."""

import numpy as np
import pytest
from clinvit.eval.statistics.resampling import PatientBootstrap
from clinvit.eval.targets.concordance import harrell
from clinvit.eval.targets.ordinal_metrics import ordinal_measured
from clinvit.eval.targets.regression_metrics import regression_measured
from clinvit.eval.targets.survival_metrics import survival_measured

SETS, PATIENTS, RESAMPLES = 150, 60, 300
EMPTY = np.empty(0)


def clustered(rng: np.random.Generator, patients: int, each: int) -> np.ndarray:
    """Standard normal values of which those of a patient share half of the variance."""
    return (rng.normal(size=(patients, 1)) + rng.normal(size=(patients, each))).ravel() / np.sqrt(2)


def covered(measure, true: dict[str, float]) -> dict[str, float]:
    """Return the share of data sets whose interval holds the true value, by metric."""
    hits = dict.fromkeys(true, 0)
    for seed in range(SETS):
        found = measure(np.random.default_rng(seed)).estimates()
        for name, value in true.items():
            hits[name] += found[name].low <= value <= found[name].high
    return {name: count / SETS for name, count in hits.items()}


def names(each: int) -> list[str]:
    return [f"p{i // each}" for i in range(PATIENTS * each)]


def test_of_numbers_with_several_cases_of_a_patient():
    def measure(rng):
        truth, gap = clustered(rng, PATIENTS, 3) * 10, clustered(rng, PATIENTS, 3) * 2 + 1
        return regression_measured(truth, truth + gap, PatientBootstrap(names(3), RESAMPLES))

    mae = 2 * (np.sqrt(2 / np.pi) * np.exp(-1 / 8) + 0.5 * (1 - 2 * 0.3085375387))
    true = {"bias": 1.0, "limit_high": 1 + 1.959964 * 2, "mae": mae, "rmse": np.sqrt(5), "concordance": 200 / 205}
    for name, share in covered(measure, true).items():
        assert 0.88 <= share <= 0.995, (name, share)


def grades_of(rng, patients):
    level = clustered(rng, patients, 2)
    noisy = level + clustered(rng, patients, 2) * 0.7
    cut = np.array([-0.8, 0.1, 0.9])
    return np.searchsorted(cut, level).astype(float), np.searchsorted(cut, noisy).astype(float)


def test_of_grades_with_several_cases_of_a_patient():
    truth, grade = grades_of(np.random.default_rng(12345), 200_000)
    whole = ordinal_measured(truth, grade, np.empty((len(truth), 0)), PatientBootstrap(["p"] * len(truth), 2)).values

    def measure(rng):
        own = grades_of(rng, PATIENTS)
        return ordinal_measured(*own, np.empty((len(own[0]), 0)), PatientBootstrap(names(2), RESAMPLES))

    true = dict(zip(("kappa_quadratic", "kappa_linear", "grade_mae"), whole[:3]))
    for name, share in covered(measure, true).items():
        assert 0.88 <= share <= 0.995, (name, share)


def times_of(rng, patients):
    risk = np.repeat(rng.normal(size=patients), 2)
    time = np.repeat(rng.exponential(10, patients), 2) * np.exp(-risk)
    censored = np.repeat(rng.exponential(15, patients), 2)
    return np.minimum(time, censored), time <= censored, risk + rng.normal(size=2 * patients) * 0.7


def test_of_concordance_in_time_with_several_cases_of_a_patient():
    true = harrell(*times_of(np.random.default_rng(999), 4000))

    def measure(rng):
        time, event, risk = times_of(rng, PATIENTS)
        bootstrap = PatientBootstrap(names(2), RESAMPLES)
        return survival_measured(np.column_stack([time, event]), risk, np.empty((len(time), 0)), EMPTY, bootstrap)

    assert 0.88 <= covered(measure, {"c_harrell": true})["c_harrell"] <= 0.995


def test_too_few_patients_have_no_interval():
    found = regression_measured(np.arange(6.0), np.arange(6.0) + 1, PatientBootstrap(["a", "b"] * 3, 20)).estimates()
    assert np.isnan(found["mae"].low) and found["mae"].reason and found["mae"].value == pytest.approx(1)
