"""Temperature and Platt scaling: what was bent is straightened, no order is changed, what cannot be done is said."""

import numpy as np
import pytest
import statsmodels.api as sm
from clinvit.core.errors import UserError
from clinvit.eval.statistics.calibration import calibration
from clinvit.eval.statistics.metrics import auroc
from clinvit.eval.statistics.resampling import PatientBootstrap
from clinvit.eval.statistics.scaling import fit_scaling, scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit, softmax
from sklearn.metrics import log_loss


def drawn(stretch=1.0, shift=0.0, cases=6000, seed=0):
    """(N, 1) truths drawn from probabilities, and these with their logits stretched and shifted."""
    generator = np.random.default_rng(seed)
    x = generator.normal(-0.5, 1.5, size=(cases, 1))
    return (generator.random(x.shape) < expit(x)).astype(float), expit(stretch * x + shift)


def classes(stretch, cases=4000, seed=0):
    """(N, 5) truths drawn from softmax probabilities, and these of stretched logits."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(cases, 5)) * 2
    truth = np.array([generator.multinomial(1, p) for p in softmax(x, axis=1)], dtype=float)
    return truth, softmax(stretch * x, axis=1)


@pytest.mark.parametrize("stretch", [0.4, 1.0, 2.5])
def test_the_temperature_undoes_the_stretch(stretch):
    (own,) = fit_scaling(*drawn(stretch), "temperature")
    assert (own.method, own.intercept, own.split, own.cases) == ("temperature", 0.0, "val", 6000)
    assert own.slope == pytest.approx(1 / stretch, rel=0.06)
    shared = fit_scaling(*classes(stretch), "temperature", exclusive=True)
    assert len(set(shared)) == 1 and len(shared) == 5
    assert shared[0].slope == pytest.approx(1 / stretch, rel=0.06)


def test_platt_undoes_stretch_and_shift():
    (own,) = fit_scaling(*drawn(3.0, 1.2), "platt")
    assert (own.slope, own.intercept) == pytest.approx((1 / 3, -0.4), abs=0.06)


def test_the_intercept_alone_is_the_likeliest_shift_and_makes_scores_right_on_average():
    truth, score = drawn(1.0, 1.2, cases=60)
    (own,) = fit_scaling(truth, score, "intercept")
    peer = sm.GLM(truth[:, 0], np.ones(60), family=sm.families.Binomial(), offset=logit(score[:, 0])).fit(tol=1e-14)
    assert (own.method, own.slope) == ("intercept", 1.0)
    assert own.intercept == pytest.approx(peer.params[0], abs=1e-5)  # scores are kept to seven digits
    assert scaled(score, [own]).mean() == pytest.approx(truth.mean(), abs=1e-9)
    (parted,) = fit_scaling(np.array([[0.0], [1.0]]), np.array([[0.1], [0.9]]), "intercept")
    assert parted.method == "intercept"  # where the classes are parted by score a slope has no value; a shift has
    (one,) = fit_scaling(np.zeros((9, 1)), score[:9], "intercept")
    assert (one.method, one.reason) == ("none", "one class only")
    with pytest.raises(UserError, match="intercept scales each label alone"):
        fit_scaling(*classes(1.0, cases=9), "intercept", exclusive=True)


def test_platt_is_the_likeliest_under_his_targets():
    truth, score = drawn(2.0, 0.5, cases=60)
    (own,) = fit_scaling(truth, score, "platt")
    hits = truth.sum()
    target = np.where(truth == 1, (hits + 1) / (hits + 2), 1 / (60 - hits + 2))

    def loss(parameters):
        z = parameters[0] * logit(score) + parameters[1]
        return -(target * log_expit(z) + (1 - target) * log_expit(-z)).sum()

    best = minimize(loss, (1.0, 0.0), method="BFGS", options={"gtol": 1e-8}).x
    assert (own.slope, own.intercept) == pytest.approx(tuple(best), abs=1e-4)


def test_the_common_temperature_is_the_likeliest():
    truth, score = classes(2.0, cases=300)
    slope = fit_scaling(truth, score, "temperature", exclusive=True)[0].slope

    def loss(slope):
        return log_loss(truth.argmax(axis=1), softmax(slope * np.log(score), axis=1))

    assert loss(slope) < min(loss(0.98 * slope), loss(1.02 * slope))


@pytest.mark.parametrize(("method", "shift"), [("temperature", 0.0), ("platt", 1.0)])
def test_calibration_is_better_on_other_cases(method, shift):
    scalings = fit_scaling(*drawn(3.0, shift), method)
    truth, score = drawn(3.0, shift, seed=1)
    score = score.round(7)  # as a table tells them apart
    after = scaled(score, scalings)
    bootstrap = PatientBootstrap(np.arange(len(truth)), 20)
    raw, new = (calibration(truth[:, 0], each[:, 0], bootstrap) for each in (score, after))
    assert new.error.value < 0.03 < 0.08 < raw.error.value
    assert new.fit.slope.value == pytest.approx(1, abs=0.08)
    assert auroc(truth, after) == pytest.approx(auroc(truth, score), abs=1e-12)


def test_unknown_truths_are_left_out_label_by_label():
    truth, score = drawn(2.0)
    two, some = np.hstack([truth, truth]), np.hstack([score, score])
    two[::3, 1] = np.nan
    first, second = fit_scaling(two, some, "platt")
    kept = ~np.isnan(two[:, 1])
    assert second == fit_scaling(truth[kept], score[kept], "platt")[0]
    assert (first.cases, second.cases) == (6000, 4000)
    known = classes(2.0, cases=90)
    partly = np.where(np.arange(90)[:, None] % 3 == 0, np.nan, known[0])
    assert fit_scaling(partly, known[1], "temperature", exclusive=True)[0].cases == 60


@pytest.mark.parametrize("method", ["temperature", "platt"])
@pytest.mark.parametrize(
    ("truth", "score", "reason"),
    [
        ([0, 0, 0], [0.1, 0.2, 0.3], "one class only"),
        ([np.nan, np.nan], [0.1, 0.2], "no case with known truth"),
        ([], [], "no case with known truth"),
        ([0, 1, 1], [0.3, 0.3, 0.3], "all scores are equal"),
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "separated"),
        ([1, 1, 0, 0, 1], [0.1, 0.2, 0.8, 0.9, 0.85], "turn the order"),
    ],
)
def test_what_cannot_be_scaled_stays_and_says_why(method, truth, score, reason):
    truth, score = np.array(truth, dtype=float)[:, None], np.array(score, dtype=float)[:, None]
    (own,) = fit_scaling(truth, score, method)
    assert own.method == "none" and reason in own.reason
    assert own.cases == (~np.isnan(truth)).sum()
    np.testing.assert_array_equal(scaled(score, [own]), score)


@pytest.mark.parametrize(
    ("places", "score", "reason"),
    [
        ([0, 0], [[0.2, 0.8], [0.7, 0.3]], "one class only"),
        ([], np.empty((0, 2)), "no case with known truth"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.5]], "all scores are equal"),
        ([0, 1], [[0.9, 0.1], [0.1, 0.9]], "highest for its class"),
        ([0, 1], [[0.1, 0.9], [0.9, 0.1]], "turn the order"),
    ],
)
def test_classes_that_cannot_be_scaled_stay_and_say_why(places, score, reason):
    truth, score = np.eye(2)[np.array(places, dtype=int)], np.array(score, dtype=float)
    found = fit_scaling(truth, score, "temperature", exclusive=True)
    assert {own.method for own in found} == {"none"} and reason in found[0].reason
    np.testing.assert_array_equal(scaled(score, found, exclusive=True), score)


def test_refusals():
    with pytest.raises(UserError, match="use temperature or platt"):
        fit_scaling(*drawn(), "isotonic")
    with pytest.raises(UserError, match="exclusive classes add up to 1"):
        fit_scaling(*classes(1.0), "platt", exclusive=True)


SCORES = arrays(np.float64, (12, 1), elements=st.integers(0, 10**7).map(lambda n: n / 10**7))


@settings(deadline=None, max_examples=60)
@given(SCORES, st.floats(0.2, 1.5), st.floats(-2, 2))
def test_no_order_is_changed_and_no_tie_made_up(scores, slope, intercept):
    """Of any scores that a table can hold to seven decimals, 0 and 1 among them."""
    (one,) = fit_scaling(*drawn(), "platt")
    after = scaled(scores, [type(one)("platt", slope, intercept, "val", 9)])
    assert ((after >= 0) & (after <= 1)).all()
    np.testing.assert_array_equal(np.sign(scores - scores.T), np.sign(after - after.T))


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, (8, 4), elements=st.floats(0, 1)), st.floats(0.2, 3))
def test_classes_keep_their_order_within_a_case_and_their_sum(scores, slope):
    scores = scores + 1e-9
    scores /= scores.sum(axis=1, keepdims=True)
    shared = type(fit_scaling(*drawn(), "temperature")[0])("temperature", slope, 0.0, "val", 9)
    after = scaled(scores, [shared] * 4, exclusive=True)
    np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-9)
    rows = np.arange(8)
    np.testing.assert_allclose(after[rows, scores.argmax(axis=1)], after.max(axis=1), atol=1e-6)


def test_failed_cases_stay_empty_and_digits_that_a_table_drops_make_no_difference():
    found = fit_scaling(*drawn(3.0), "temperature")
    assert np.isnan(scaled(np.array([[np.nan]]), found)).all()
    fresh = 1 - np.geomspace(1e-9, 0.5, 50)[:, None]
    kept = np.array([[float(f"{score:.7g}")] for score in fresh[:, 0]])
    np.testing.assert_array_equal(scaled(fresh, found), scaled(kept, found))
