"""The same numbers as statsmodels, where it has them."""

import numpy as np
import pytest
import statsmodels.api as sm
from clinvit.eval.statistics.calibration_curve import calibration_curve, spline
from clinvit.eval.statistics.calibration_fit import calibration_fit
from clinvit.eval.statistics.holm import holm
from clinvit.eval.statistics.intervals import PatientBootstrap, wilson
from clinvit.eval.statistics.mcnemar import mcnemar
from clinvit.eval.statistics.small_samples import exact
from scipy.special import expit, logit
from scipy.stats import t as student
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

PATIENTS = 150


@pytest.fixture
def cases():
    """Return truth, score and patient of two images each; scores too low and too extreme."""
    generator = np.random.default_rng(3)
    of = np.repeat(np.arange(PATIENTS), 2)
    odds = generator.normal(size=PATIENTS)[of] + 0.5 * generator.normal(size=2 * PATIENTS)
    truth = (generator.random(2 * PATIENTS) < expit(odds)).astype(float)
    return truth, expit(1.4 * odds - 0.5), of


def regression(truth, design, patients, offset=None):
    """Return a logistic regression whose covariance is summed by patient, widened by P / (P - 1) as ours is."""
    model = sm.GLM(truth, design, family=sm.families.Binomial(), offset=offset)
    found = model.fit(tol=1e-12, cov_type="cluster", cov_kwds={"groups": patients, "use_correction": False})
    return found.params, found.cov_params() * PATIENTS / (PATIENTS - 1)


def interval(value, variance, truth, patients):
    smaller = min(len(np.unique(patients[truth == kind])) for kind in (0, 1))
    half = student.ppf(0.975, smaller - 1) * np.sqrt(variance)
    return value - half, value + half


def test_calibration_in_the_large_and_slope(cases):
    truth, score, patients = cases
    fit, odds = calibration_fit(truth, score, PatientBootstrap(patients, 10)), logit(score)
    large, own = regression(truth, np.ones((len(truth), 1)), patients, odds)
    assert fit.in_the_large.value == pytest.approx(large[0], abs=1e-8)
    assert (fit.in_the_large.low, fit.in_the_large.high) == pytest.approx(
        interval(large[0], own[0, 0], truth, patients)
    )
    slope, own = regression(truth, np.column_stack([odds, np.ones(len(odds))]), patients)
    assert (fit.slope.value, fit.intercept.value) == pytest.approx(slope, abs=1e-6)
    assert (fit.slope.low, fit.slope.high) == pytest.approx(interval(slope[0], own[0, 0], truth, patients), abs=1e-6)


def test_calibration_curve(cases):
    truth, score, patients = cases
    curve, odds = calibration_curve(truth, score, PatientBootstrap(patients, 10)), logit(score)
    knots = np.quantile(odds, [0.05, 0.35, 0.65, 0.95], method="inverted_cdf")
    design, at = (np.column_stack([spline(x, knots), np.ones(len(x))]) for x in (odds, logit(curve.score)))
    found, own = regression(truth, design, patients)
    low, high = interval(at @ found, np.einsum("gi,ij,gj->g", at, own, at), truth, patients)
    for ours, theirs in ((curve.observed, at @ found), (curve.low, low), (curve.high, high)):
        np.testing.assert_allclose(ours, expit(theirs), atol=1e-6)


@pytest.mark.parametrize(("hits", "cases"), [(0, 7), (3, 7), (7, 7), (45, 60), (199, 200)])
def test_proportions(hits, cases):
    assert wilson(hits, cases) == pytest.approx(proportion_confint(hits, cases, method="wilson"), abs=1e-12)
    assert exact(hits, cases) == pytest.approx(proportion_confint(hits, cases, method="beta"), abs=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0, 4), (8, 3), (25, 25), (41, 20)])
def test_mcnemar(first, second):
    gap = np.repeat([1, -1, 0], [first, second, 30])
    theirs = their_mcnemar([[10, first], [second, 20]], exact=True).pvalue
    assert mcnemar(gap, np.arange(len(gap))) == pytest.approx(theirs, abs=1e-12)


def test_holm():
    p = np.random.default_rng(0).random(30) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-15)
