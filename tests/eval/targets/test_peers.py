"""Metrics of numbers, grades and times equal those of scikit-learn, SciPy and scikit-survival."""

import json
from pathlib import Path

import numpy as np
import pytest
from clinvit.datasets.manifest.targets import Survival
from clinvit.eval.statistics.resampling import PatientBootstrap
from clinvit.eval.targets.concordance import harrell
from clinvit.eval.targets.kaplan_meier import kaplan_meier
from clinvit.eval.targets.ordinal_metrics import ordinal_measured
from clinvit.eval.targets.regression_metrics import regression_measured
from clinvit.eval.targets.survival_metrics import survival_measured
from clinvit.finetune.objectives import with_baseline
from scipy.stats import norm
from sklearn.metrics import (
    cohen_kappa_score,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)

GOLDEN = json.loads((Path(__file__).parents[2] / "golden/survival.json").read_text())
NEAR = {"rel": 1e-9, "abs": 1e-9}


def patients(cases: int, each: int = 1) -> list[str]:
    return [f"p{case // each}" for case in range(cases)]


def drawn_counts(bootstrap: PatientBootstrap) -> np.ndarray:
    return np.concatenate([block[bootstrap.index] for block in bootstrap.counts()], axis=1)


def test_numbers_as_scikit_learn_and_their_resamples_too():
    rng = np.random.default_rng(0)
    truth = rng.normal(1000, 3, 80)
    value = truth + rng.normal(0.5, 2, 80)
    bootstrap = PatientBootstrap(patients(80, 2), 20)
    found = regression_measured(truth, value, bootstrap)
    counts = drawn_counts(bootstrap)
    for weights, own in [(np.ones(80), found.values), *zip(counts.T, found.drawn.resampled)]:
        by_name = dict(zip(found.names, own))
        gap, rows = value - truth, np.repeat(np.arange(80), weights.astype(int))
        assert by_name["mae"] == pytest.approx(mean_absolute_error(truth, value, sample_weight=weights), **NEAR)
        assert by_name["rmse"] ** 2 == pytest.approx(mean_squared_error(truth, value, sample_weight=weights), **NEAR)
        assert by_name["r2"] == pytest.approx(r2_score(truth, value, sample_weight=weights), **NEAR)
        drawn, half = gap[rows], norm.ppf(0.975) * gap[rows].std(ddof=1)
        assert by_name["bias"] == pytest.approx(drawn.mean(), **NEAR)
        assert by_name["limit_low"] == pytest.approx(drawn.mean() - half, **NEAR)
        assert by_name["limit_high"] == pytest.approx(drawn.mean() + half, **NEAR)
        x, y = truth[rows], value[rows]
        lin = 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        assert by_name["concordance"] == pytest.approx(lin, **NEAR)


def test_grades_as_scikit_learn_and_their_resamples_too():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 5, 90).astype(float)
    atleast = np.sort(rng.random((90, 4)), axis=1)[:, ::-1]
    grade = np.clip(truth + rng.integers(-1, 2, 90), 0, 4)
    bootstrap = PatientBootstrap(patients(90, 2), 10)
    found = ordinal_measured(truth, grade, atleast, bootstrap)
    for weights, own in [(np.ones(90), found.values), *zip(drawn_counts(bootstrap).T, found.drawn.resampled)]:
        by_name = dict(zip(found.names, own))
        for name in ("quadratic", "linear"):
            theirs = cohen_kappa_score(truth, grade, weights=name, sample_weight=weights)
            assert by_name[f"kappa_{name}"] == pytest.approx(theirs, **NEAR)
        gap = np.abs(truth - grade)
        assert by_name["grade_mae"] == pytest.approx(np.average(gap, weights=weights), **NEAR)
        assert by_name["grade_accuracy"] == pytest.approx(np.average(gap == 0, weights=weights), **NEAR)
        for k in range(1, 5):
            theirs = roc_auc_score(truth >= k, atleast[:, k - 1], sample_weight=weights)
            assert by_name[f"auroc_atleast_{k}"] == pytest.approx(theirs, **NEAR)


@pytest.mark.parametrize("name", ["continuous", "ties"])
def test_times_as_scikit_survival(name):
    own = {key: np.array(value) for key, value in GOLDEN[name].items()}
    truth = np.column_stack([own["time"], own["event"]])
    bootstrap = PatientBootstrap(patients(60), 20)
    found = survival_measured(truth, own["risk"], own["free"], own["times"], bootstrap)
    by_name = dict(zip(found.names, found.values))
    assert by_name["c_harrell"] == pytest.approx(own["harrell"], **NEAR)
    assert by_name["c_uno"] == pytest.approx(own["uno"], **NEAR)
    assert by_name["auroc_mean"] == pytest.approx(own["auroc_mean"], **NEAR)
    assert by_name["brier_integrated"] == pytest.approx(own["brier_integrated"], **NEAR)
    for time, auroc, brier in zip(own["times"], own["auroc"], own["brier"]):
        assert by_name[f"auroc_at_{time:g}"] == pytest.approx(auroc, **NEAR)
        assert by_name[f"brier_at_{time:g}"] == pytest.approx(brier, **NEAR)
    curve = kaplan_meier(own["time"], own["event"] == 1, np.ones((60, 1)))
    np.testing.assert_allclose(curve.values[:, 0], own["km"], rtol=1e-9)
    assert harrell(own["time"], own["event"] == 1, own["risk"]) == pytest.approx(own["harrell"], **NEAR)


@pytest.mark.parametrize("name", ["continuous", "ties"])
def test_the_baseline_hazard_as_scikit_survival(name):
    own = {key: np.array(value) for key, value in GOLDEN[name].items()}
    target = Survival("death", loss="cox", times=tuple(own["times"].tolist()))
    found = with_baseline(target, own["risk"], np.column_stack([own["time"], own["event"]]))
    np.testing.assert_allclose(found.baseline, own["baseline"], rtol=1e-9)


def test_a_resample_of_times_is_the_metric_of_the_cases_drawn():
    """Cases that are drawn twice count as two, in concordance, censoring, AUROC and Brier score."""
    own = {key: np.array(value) for key, value in GOLDEN["ties"].items()}
    truth = np.column_stack([own["time"], own["event"]])
    bootstrap = PatientBootstrap(patients(60, 2), 5)
    found = survival_measured(truth, own["risk"], own["free"], own["times"], bootstrap)
    for counts, drawn in zip(drawn_counts(bootstrap).T, found.drawn.resampled):
        rows = np.repeat(np.arange(60), counts)
        alone = PatientBootstrap(patients(len(rows)), 2)
        again = survival_measured(truth[rows], own["risk"][rows], own["free"][rows], own["times"], alone)
        np.testing.assert_allclose(drawn, again.values, rtol=1e-9)
