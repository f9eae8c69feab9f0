"""Thresholds come from validation, say how, and are carried over with intervals."""

import numpy as np
import pytest
from clinvit.core.errors import UserError
from clinvit.eval.statistics.intervals import PatientBootstrap
from clinvit.eval.statistics.metrics import confusion, rates
from clinvit.eval.statistics.operating_points import OperatingPoint, choose, transfer


def column(*values):
    return np.array(values, dtype=float)[:, None]


def at_threshold(truth, scores, threshold):
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
    sums = [
        at_threshold(truth, scores, t)["sensitivity"] + at_threshold(truth, scores, t)["specificity"]
        for t in np.unique(scores)
    ]
    chosen = at_threshold(truth, scores, point.threshold)
    assert chosen["sensitivity"] + chosen["specificity"] == pytest.approx(max(sums))


@pytest.mark.parametrize("share", [0.8, 0.9, 1.0])
def test_fixed_sensitivity_and_specificity(share):
    generator = np.random.default_rng(1)
    truth = np.repeat([0.0, 1.0], 10)[:, None]
    scores = generator.random((20, 1)) + 0.3 * truth
    scores /= scores.max() + 0.01
    (high,) = choose(truth, scores, f"sensitivity={share}")
    assert at_threshold(truth, scores, high.threshold)["sensitivity"] == pytest.approx(share)
    (low,) = choose(truth, scores, f"specificity={share}")
    assert at_threshold(truth, scores, low.threshold)["specificity"] >= share - 1e-12 or low.reason


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


@pytest.mark.parametrize(
    "rule",
    [
        "best", "sensitivity=2", "sensitivity=0", "specificity", "sensitivity=-1", "cost", "cost=1", "cost=0:1",
        "cost=1:0", "cost=-1:2", "cost=1:1@0", "cost=1:1@1", "cost=1:1@2", "cost=1:1@", "cost=.:1",
    ],
)  # fmt: skip
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


@pytest.mark.parametrize("rule", ["cost=1:1", "cost=10:1", "cost=1:3.5", "cost=.5:2", "cost=10:1@0.02", "cost=5:1@.4"])
def test_cost_is_the_least_of_all_thresholds(rule):
    generator = np.random.default_rng(4)
    truth = (generator.random((300, 1)) < 0.3).astype(float)
    truth[:9] = np.nan
    scores = (generator.random((300, 1)) * 0.5 + 0.5 * np.nan_to_num(truth) * generator.random((300, 1))).round(2)
    (point,) = choose(truth, scores, rule)
    missed, rest = rule.removeprefix("cost=").split(":")
    alarm, _, at = rest.partition("@")
    prevalence = float(at) if at else np.nanmean(truth)

    def cost(threshold):
        found = at_threshold(truth, scores, threshold)
        miss, false = 1 - found["sensitivity"], 1 - found["specificity"]
        return prevalence * miss * float(missed) + (1 - prevalence) * false * float(alarm)

    best = min(cost(threshold) for threshold in [*np.unique(scores), 2])
    if point.reason:
        assert cost(2) == pytest.approx(best)
    else:
        assert cost(point.threshold) == pytest.approx(best)
        assert (point.rule, point.chosen_on) == (rule, "val")


def test_where_no_call_is_cheapest_there_is_no_threshold():
    (point,) = choose(column(0, 1, 0, 1), column(0.9, 0.5, 0.4, 0.2), "cost=1:1000@0.001")
    assert "best in val to predict no case positive" in point.reason
    assert np.isnan(point.threshold)


@pytest.mark.parametrize("perfect", [False, True])
@pytest.mark.parametrize("clustered", [False, True])
def test_predictive_values_at_a_stated_prevalence(perfect, clustered):
    generator = np.random.default_rng(5)
    truth = (generator.random((200, 2)) < 0.4).astype(float)
    scores = np.clip(generator.random((200, 2)) * 0.7 + 0.3 * truth, 0, 1)
    if perfect:
        scores = np.where(truth == 1, 0.9, 0.1)
    points = [OperatingPoint(0.5, "given")] * 2
    bootstrap = PatientBootstrap(np.arange(200) // (2 if clustered else 1), 300)
    first, second = transfer(truth, scores, points, bootstrap, np.array([0.02, np.nan]))
    assert "ppv_at_prevalence" not in second
    se, sp = first["sensitivity"].value, first["specificity"].value
    ppv, npv = first["ppv_at_prevalence"], first["npv_at_prevalence"]
    assert ppv.value == pytest.approx(se * 0.02 / (se * 0.02 + (1 - sp) * 0.98))
    assert npv.value == pytest.approx(sp * 0.98 / (sp * 0.98 + (1 - se) * 0.02))
    for estimate in (ppv, npv):
        assert estimate.low < estimate.value <= estimate.high
        assert (estimate.value < estimate.high) == (not perfect)
