"""Metrics against scikit-learn, ties and unknown truths included."""

import numpy as np
import pytest
from clinvit.eval.statistics import metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
    roc_auc_score,
)


def cases(seed: int, digits: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = (generator.random((97, 5)) < [0.5, 0.1, 0.9, 0.3, 0.03]).astype(float)
    truth[:2] = [[0] * 5, [1] * 5]
    scores = generator.random(truth.shape)
    truth[2:][generator.random((95, 5)) < 0.2] = np.nan
    return truth, scores if digits is None else scores.round(digits)


@pytest.mark.parametrize("digits", [None, 2, 1, 0])
def test_ranks_agree_with_scikit_learn(digits):
    truth, scores = cases(0, digits)
    areas, precisions = metrics.auroc(truth, scores), metrics.average_precision(truth, scores)
    for label in range(truth.shape[1]):
        known = ~np.isnan(truth[:, label])
        y, p = truth[known, label], scores[known, label]
        assert areas[label] == pytest.approx(roc_auc_score(y, p), abs=1e-12)
        assert precisions[label] == pytest.approx(average_precision_score(y, p), abs=1e-12)


def test_rates_and_brier_agree_with_scikit_learn():
    truth, scores = cases(1, 2)
    thresholds = np.array([0.5, 0.2, 0.8, 0.37, 0.6])
    rates = metrics.rates(metrics.confusion(truth, scores, thresholds))
    brier = metrics.brier(truth, scores)
    for label in range(truth.shape[1]):
        known = ~np.isnan(truth[:, label])
        y, p = truth[known, label], scores[known, label]
        called = p >= thresholds[label]
        expected = {
            "sensitivity": recall_score(y, called),
            "specificity": recall_score(y, called, pos_label=0),
            "ppv": precision_score(y, called),
            "npv": precision_score(y, called, pos_label=0),
            "f1": f1_score(y, called),
            "balanced_accuracy": balanced_accuracy_score(y, called),
            "mcc": matthews_corrcoef(y, called),
            "accuracy": accuracy_score(y, called),
        }
        for name, value in expected.items():
            assert rates[name][label] == pytest.approx(value, abs=1e-12), name
        assert brier[label] == pytest.approx(brier_score_loss(y, p), abs=1e-12)


def test_undefined_is_nan_with_a_reason():
    nan = np.nan
    truth = np.array([[0, 1, nan, 0], [0, 1, nan, 1]], dtype=float)
    scores = np.full((2, 4), 0.5)
    assert metrics.reasons(truth) == ["no positive case", "no negative case", "no case with known truth", ""]
    np.testing.assert_array_equal(metrics.auroc(truth, scores), [nan, nan, nan, 0.5])
    np.testing.assert_array_equal(metrics.average_precision(truth, scores), [nan, nan, nan, 0.5])
    assert np.isnan(metrics.brier(truth, scores)[2])
    assert metrics.macro(metrics.auroc(truth, scores)) == (0.5, 1)


def test_no_case_at_all():
    truth = np.empty((0, 2))
    assert metrics.reasons(truth) == ["no scored case"] * 2
    for metric in (metrics.auroc, metrics.average_precision, metrics.brier):
        assert np.isnan(metric(truth, truth)).all()


def test_no_threshold_counts_nothing():
    cells = metrics.confusion(np.array([[0.0], [1.0]]), np.array([[0.2], [0.7]]), np.array([np.nan]))
    assert sum(int(cell[0]) for cell in cells) == 0
    assert all(np.isnan(rate[0]) for rate in metrics.rates(cells).values())


@given(
    arrays(float, 25, elements=st.sampled_from([0.0, 1.0, np.nan])),
    arrays(float, 25, elements=st.sampled_from([0, 0.1, 0.25, 0.5, 0.7, 0.9, 1])),
    st.sampled_from([0.0, 0.25, 0.6, 1.0]),
)
def test_any_table_agrees_with_scikit_learn_where_it_is_defined(truth, score, threshold):
    columns = truth[:, None], score[:, None]
    rates = {name: rate[0] for name, rate in metrics.rates(metrics.confusion(*columns, np.array([threshold]))).items()}
    known = ~np.isnan(truth)
    y, p = truth[known], score[known]
    called = p >= threshold
    both = 0 < y.sum() < len(y)
    ranks = {"auroc": roc_auc_score, "average_precision": average_precision_score}
    for name, theirs in ranks.items():
        ours = getattr(metrics, name)(*columns)[0]
        assert ours == pytest.approx(theirs(y, p), abs=1e-12) if both else np.isnan(ours)
    expected = {
        "sensitivity": (y.sum() > 0, lambda: recall_score(y, called)),
        "specificity": (y.sum() < len(y), lambda: recall_score(y, called, pos_label=0)),
        "ppv": (called.any(), lambda: precision_score(y, called)),
        "npv": ((~called).any(), lambda: precision_score(y, called, pos_label=0)),
        "f1": (y.sum() > 0, lambda: f1_score(y, called)),
        "balanced_accuracy": (both, lambda: balanced_accuracy_score(y, called)),
        "mcc": (both and called.any() and not called.all(), lambda: matthews_corrcoef(y, called)),
        "accuracy": (len(y) > 0, lambda: accuracy_score(y, called)),
    }
    assert rates.keys() == expected.keys()
    for name, (defined, theirs) in expected.items():
        assert rates[name] == pytest.approx(theirs(), abs=1e-12) if defined else np.isnan(rates[name]), name


def test_predictive_values_at_a_prevalence():
    # At the cases' own prevalence Bayes gives the cases' own predictive values.
    truth, scores = cases(3)
    cells = metrics.confusion(truth, scores, np.full(5, 0.5))
    found, positive = metrics.rates(cells), (truth == 1).sum(axis=0)
    prevalence = positive / (positive + (truth == 0).sum(axis=0))
    ppv, npv = metrics.predictive_values(found["sensitivity"], found["specificity"], prevalence)
    np.testing.assert_allclose(ppv, found["ppv"])
    np.testing.assert_allclose(npv, found["npv"])
    # A test with 90 % and 91 % in a screening with 1 %: about 9 % of those called positive are ill.
    ppv, npv = metrics.predictive_values(np.array(0.9), np.array(0.91), np.array(0.01))
    assert (float(ppv), float(npv)) == pytest.approx((0.009 / 0.0981, 0.9009 / 0.9019))
    assert np.isnan(metrics.predictive_values(np.array(0.0), np.array(1.0), np.array(0.1))[0])
