"""The flexible calibration curve finds what a slope cannot, and is not drawn where little is known."""

import warnings

import numpy as np
import pytest
from clinvit.eval.statistics.calibration_curve import POINTS, calibration_curve, spline
from clinvit.eval.statistics.resampling import PatientBootstrap
from scipy.special import expit


def of(truth, score, patients=None):
    return calibration_curve(
        truth, score, PatientBootstrap(np.arange(len(truth)) if patients is None else patients, 10)
    )


def drawn(cases=20_000, bend=0.0, seed=0):
    """Truths whose log odds are bent away from those of the score."""
    generator = np.random.default_rng(seed)
    odds = generator.normal(-1, 1.3, cases)
    right = expit(odds + bend * (odds + 1) ** 2)
    return (generator.random(cases) < right).astype(float), expit(odds), right


@pytest.mark.parametrize("bend", [0, -0.25])
def test_the_curve_is_what_scores_mean(bend):
    truth, score, right = drawn(bend=bend)
    curve = of(truth, score)
    assert len(curve.score) == len(curve.low) == POINTS and not curve.reason and (np.diff(curve.score) > 0).all()
    rising = np.argsort(score)
    assert np.abs(curve.observed - np.interp(curve.score, score[rising], right[rising])).max() < 0.03
    on_the_line = (curve.low <= curve.score) & (curve.score <= curve.high)
    assert on_the_line.mean() > 0.9 if not bend else on_the_line.mean() < 0.5


def test_several_images_of_a_patient_widen_the_band_and_not_the_curve():
    truth, score, _ = drawn(400)
    alone, thrice = of(truth, score), of(np.repeat(truth, 3), np.repeat(score, 3), np.repeat(np.arange(400), 3))
    np.testing.assert_allclose(thrice.observed, alone.observed, atol=1e-5)
    np.testing.assert_allclose(thrice.high - thrice.low, alone.high - alone.low, atol=1e-4)


@pytest.mark.parametrize(
    ("truth", "score", "reason"),
    [
        ([0, 1] * 9, np.linspace(0, 1, 18), "cases of 9 patients only"),
        ([0] * 40, np.linspace(0, 1, 40), "one class only"),
        ([np.nan] * 4, np.linspace(0, 1, 4), "no case with known truth"),
        ([0] * 20 + [1] * 20, np.linspace(0, 1, 40), "separated"),
        ([0, 1] * 40, [0.3] * 80, "all scores are equal"),
        ([0, 1, 1, 0] * 20, [0.2, 0.2, 0.7, 0.9] * 20, "3 different scores only"),
    ],
)
def test_no_curve_and_why(truth, score, reason):
    curve = of(np.array(truth, dtype=float), np.array(score, dtype=float))
    assert curve.reason.startswith("no curve: ") and reason in curve.reason
    assert all(len(part) == 0 for part in curve[:4])


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_many_equal_scores_leave_a_curve_without_a_warning(score):
    truth, scores, _ = drawn(600)
    scores[:500] = score
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = of(truth, scores)
    assert not curve.reason and np.isfinite([curve.low, curve.high]).all()


def test_the_spline_is_straight_beyond_its_knots():
    knots = np.array([-1.0, 0.0, 0.5, 2.0])
    for ends in (np.linspace(-9, -1, 5), np.linspace(2, 9, 5)):
        np.testing.assert_allclose(np.diff(spline(ends, knots), n=2, axis=0), 0, atol=1e-10)
    assert np.abs(np.diff(spline(np.linspace(-1, 2, 9), knots)[:, 1:], n=2, axis=0)).max() > 0.01
    assert spline(np.arange(3.0), knots[:2]).tolist() == [[0], [1], [2]]
