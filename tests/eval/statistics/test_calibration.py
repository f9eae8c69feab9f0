"""Calibration of scores that are known to be right, too extreme, or hopeless."""

import numpy as np
import pytest
from clinvit.eval.statistics.calibration import calibration, equal_mass_bins
from clinvit.eval.statistics.calibration_fit import calibration_fit, inner_scores, slope_and_intercept
from clinvit.eval.statistics.intervals import PatientBootstrap


def drawn(cases=4000, stretch=1.0, shift=0.0):
    """Truths drawn from probabilities whose logit is then stretched and shifted."""
    generator = np.random.default_rng(0)
    logit = generator.normal(size=cases) * 1.5
    truth = (generator.random(cases) < 1 / (1 + np.exp(-logit))).astype(float)
    return truth, 1 / (1 + np.exp(-(stretch * logit + shift)))


def test_slope_and_intercept_undo_stretch_and_shift():
    assert slope_and_intercept(*drawn())[:2] == pytest.approx((1, 0), abs=0.1)
    assert slope_and_intercept(*drawn(stretch=2))[:2] == pytest.approx((0.5, 0), abs=0.1)
    slope, intercept, _ = slope_and_intercept(*drawn(shift=1))
    assert (slope, intercept) == pytest.approx((1, -1), abs=0.1)


def test_error_is_small_when_right_and_large_when_not():
    bootstrap = PatientBootstrap(np.arange(4000) // 2, 100)
    right, wrong = calibration(*drawn(), bootstrap), calibration(*drawn(shift=1.5), bootstrap)
    assert right.error.value < 0.03 < 0.15 < wrong.error.value
    assert np.isnan(wrong.error.low)  # an interval of a distance would exclude 0 for perfect scores too
    assert right.error.value < 2 * right.by_chance.value < 0.04 < wrong.error.value
    assert len(right.cases) == 10
    assert right.cases.sum() == 4000
    inside = [e.low <= score <= e.high for e, score in zip(right.observed, right.mean_score)]
    assert sum(inside) >= 8


def test_error_by_hand():
    truth, score = np.array([0.0, 1] * 20), np.full(40, 0.3)
    found = calibration(truth, score, PatientBootstrap(np.arange(40), 50))
    assert len(found.cases) == 1  # equal scores are never parted
    assert found.error.value == pytest.approx(0.2)
    assert found.fit.slope.reason == "all scores are equal"
    assert found.fit.in_the_large.value == pytest.approx(np.log(0.7 / 0.3))


def test_bins_hold_equal_numbers_and_leave_out_nan():
    score = np.random.default_rng(0).random(100)
    score[:10] = np.nan
    bins = equal_mass_bins(score, 9)
    assert (bins[:10] == -1).all()
    np.testing.assert_array_equal(np.bincount(bins[10:]), [10] * 9)
    assert equal_mass_bins(np.array([0.5, 0.5, 0.9]), 5).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("truth", "score", "reason"),
    [
        ([0, 0], [0.1, 0.2], "one class only"),
        ([np.nan, np.nan], [0.1, 0.2], "no case with known truth"),
        ([], [], "no case with known truth"),
        ([0, 1], [0.1, 0.2], "separated"),
        ([0, 1, 0], [0.0, 0.0, 0.0], "all scores are equal"),
    ],
)
def test_undefined_with_a_reason(truth, score, reason):
    truth, score = np.array(truth, dtype=float), np.array(score, dtype=float)
    found = calibration(truth, score, PatientBootstrap(np.arange(len(truth)), 20))
    assert np.isnan(found.fit.slope.value)
    assert reason in found.fit.slope.reason
    assert np.isnan(found.error.value) == ("known" in reason)


def test_in_the_large_says_whether_scores_are_too_low_whatever_the_slope_is():
    truth, score = drawn(stretch=1.4, shift=-1.0)
    fit = calibration_fit(truth, score, PatientBootstrap(np.arange(4000)))
    odds = np.log(score / (1 - score)) + fit.in_the_large.value
    assert (1 / (1 + np.exp(-odds))).sum() == pytest.approx(truth.sum())
    assert 0 < fit.in_the_large.low < fit.in_the_large.value
    assert fit.slope.low < 1 / 1.4 < fit.slope.high < 1


def test_scores_rounded_to_0_and_1_do_not_lever_the_slope():
    truth, score = drawn(stretch=1.2)
    rounded = score.round(2)
    assert 0.0 in rounded
    exact = slope_and_intercept(truth, score)[0]
    assert slope_and_intercept(truth, rounded)[0] == pytest.approx(exact, abs=0.02)
    assert inner_scores(np.array([0, 0.01, 0.5, 1.0])).tolist() == [0.005, 0.01, 0.5, 0.995]


def test_few_positive_patients_leave_calibration_without_interval():
    truth, score = drawn(cases=400)
    truth[np.flatnonzero(truth == 1)[9:]] = 0
    fit = calibration_fit(truth, score, PatientBootstrap(np.arange(400)))
    assert np.isnan([fit.in_the_large.low, fit.slope.low]).all()
    assert "9 patients" in fit.slope.reason


def test_scores_of_0_and_1_alone_are_no_probabilities():
    """Their log odds would be what they are moved in by: a number of ours, not of the model."""
    truth = np.tile([0.0, 1, 1], 30)
    fit = calibration_fit(truth, np.tile([0.0, 1], 45), PatientBootstrap(np.arange(90), 10))
    assert all(np.isnan(each.value) and "labels, not probabilities" in each.reason for each in fit)
    rounded = calibration_fit(
        truth, np.r_[np.tile([0.0, 1], 40), np.full(10, 0.5)], PatientBootstrap(np.arange(90), 10)
    )
    assert np.isfinite(rounded.in_the_large.value)
