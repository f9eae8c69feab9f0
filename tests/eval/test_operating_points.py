"""Thresholds come from validation, say how, and are carried over with intervals."""

import numpy as np
import pytest
from clinvit.errors import UserError
from clinvit.eval.intervals import PatientBootstrap
from clinvit.eval.metrics import confusion, rates
from clinvit.eval.operating_points import OperatingPoint, choose, transfer


def column(*values):
    return np.array(values, dtype=float)[:, None]


def at(truth, scores, threshold):
    return {k: float(v[0]) for k, v in rates(confusion(truth, scores, np.array([threshold]))).items()}


def test_youden_lies_between_the_classes():
    truth, scores = column(0, 0, 1, 1), column(0.1, 0.2, 0.6, 0.9)
    (point,) = choose(truth, scores)
    assert point.threshold == pytest.approx(0.4)
    assert (point.rule, point.chosen_on, point.reason) == ("youden", "val", "")


def test_youden_is_the_best_of_all_thresholds():
    generator = np.random.default_rng(0)
    truth = (generator.random((200, 1)) < 0.4).astype(float)
    scores = (generator.random((200, 1)) * 0.6 + 0.4 * truth).round(2)
    (point,) = choose(truth, scores)
    sums = [at(truth, scores, t)["sensitivity"] + at(truth, scores, t)["specificity"] for t in np.unique(scores)]
    chosen = at(truth, scores, point.threshold)
    assert chosen["sensitivity"] + chosen["specificity"] == pytest.approx(max(sums))


@pytest.mark.parametrize("share", [0.8, 0.9, 1.0])
def test_fixed_sensitivity_and_specificity(share):
    generator = np.random.default_rng(1)
    truth = np.repeat([0.0, 1.0], 10)[:, None]
    scores = generator.random((20, 1)) + 0.3 * truth
    scores /= scores.max() + 0.01
    (high,) = choose(truth, scores, f"sensitivity={share}")
    assert at(truth, scores, high.threshold)["sensitivity"] == pytest.approx(share)
    (low,) = choose(truth, scores, f"specificity={share}")
    assert at(truth, scores, low.threshold)["specificity"] >= share - 1e-12 or low.reason


def test_undefined_with_a_reason():
    nan = np.nan
    truth = np.array([[0, 1, nan, 0], [0, 1, nan, 1]], dtype=float)
    points = choose(truth, np.full((2, 4), 0.5))
    assert [p.reason for p in points] == [
        "no positive case in val",
        "no negative case in val",
        "no case with known truth in val",
        "all scores in val are equal",
    ]
    assert all(np.isnan(p.threshold) for p in points)
    (point,) = choose(column(0, 1, 0), column(0.1, 0.2, 0.9), "specificity=1")
    assert "no threshold reaches" in point.reason
    assert choose(np.empty((0, 1)), np.empty((0, 1)))[0].reason == "no scored case in val"


def test_one_half_needs_no_validation():
    assert choose(np.empty((0, 2)), np.empty((0, 2)), "0.5") == [OperatingPoint(0.5, "0.5")] * 2


@pytest.mark.parametrize("rule", ["best", "sensitivity=2", "sensitivity=0", "specificity", "sensitivity=-1"])
def test_unknown_rule(rule):
    with pytest.raises(UserError, match="threshold rule"):
        choose(np.empty((0, 1)), np.empty((0, 1)), rule)


def test_transfer_gives_rates_with_intervals():
    generator = np.random.default_rng(2)
    truth = (generator.random((150, 2)) < 0.4).astype(float)
    truth[:5, 0] = np.nan
    scores = np.clip(generator.random((150, 2)) * 0.7 + 0.3 * np.nan_to_num(truth), 0, 1)
    points = [
        OperatingPoint(0.5, "youden", "val"),
        OperatingPoint(np.nan, "youden", "val", "no positive case in val"),
    ]
    expected = rates(confusion(truth, scores, np.array([0.5, np.nan])))
    for patients in (np.arange(150), np.arange(150) // 3):
        first, second = transfer(truth, scores, points, PatientBootstrap(patients, 300))
        for name, estimate in first.items():
            assert estimate.value == pytest.approx(expected[name][0], abs=1e-12)
            assert estimate.low < estimate.value < estimate.high, name
        assert all(np.isnan(e.value) and e.reason == "no positive case in val" for e in second.values())
