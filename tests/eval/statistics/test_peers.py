"""The same numbers as statsmodels and dcurves, where they have them."""

import numpy as np
import pytest
import statsmodels.api as sm
from clinvit.eval.statistics.calibration_curve import calibration_curve, spline
from clinvit.eval.statistics.calibration_fit import calibration_fit
from clinvit.eval.statistics.decision_curve import THRESHOLDS, decision_curves
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


def test_net_benefit():
    """dcurves 1.1.7 of PyPI, whose own dependencies are too many for ours: its numbers for these sixty cases."""
    i = np.arange(60)
    truth = ((i * 7) % 10 < 3).astype(float)
    score = np.round(np.clip(0.15 + 0.5 * truth * ((i % 4) / 3) + ((i * 13) % 17) / 50, 0, 1), 3)
    curve = decision_curves(truth[:, None], score[:, None], PatientBootstrap(i, 10))[0]
    asked = [int(np.flatnonzero(np.isclose(THRESHOLDS, cut))[0]) for cut in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)]
    model = [0.263158, 0.222222, 0.154167, 0.107143, 0.100000, 0.166667]
    everyone = [0.263158, 0.222222, 0.125000, 0.0, -0.166667, -0.4]
    assert [curve.net_benefit[place].value for place in asked] == pytest.approx(model, abs=1e-6)
    assert curve.treat_all[asked] == pytest.approx(everyone, abs=1e-6)
