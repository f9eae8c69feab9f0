"""Further and weighted metrics: equal to scikit-learn's, with intervals by patient that hold what weights add."""

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.eval.statistics.further_metrics import hand_till, label_metrics, micro_auroc, net_benefit_difference
from clinvit.eval.statistics.resampling import PatientBootstrap
from clinvit.eval.statistics.weighted import case_weights, effective_size, weighted_metrics
from clinvit.eval.statistics.weighted_roc import roc_areas
from sklearn.metrics import brier_score_loss, log_loss, recall_score, roc_auc_score


def cases(seed=0, n=300, digits=2):
    random = np.random.default_rng(seed)
    truth = (random.random(n) < 0.4).astype(float)
    score = np.round(1 / (1 + np.exp(-random.normal(size=n) - 1.5 * truth + 0.7)), digits)
    return truth, score, PatientBootstrap(np.arange(n).astype(str), 200), random.random(n) + 0.2


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.37, 1.0])
def test_weighted_and_partial_areas_are_those_of_scikit_learn(rate):
    truth, score, _, weights = cases()
    max_fpr = None if rate == 1 else rate
    found = roc_areas(truth, score, np.column_stack([np.ones(300), weights]), rate)
    assert found[0] == pytest.approx(roc_auc_score(truth, score, max_fpr=max_fpr), abs=1e-12)
    assert found[1] == pytest.approx(roc_auc_score(truth, score, sample_weight=weights, max_fpr=max_fpr), abs=1e-12)


def test_losses_are_those_of_scikit_learn_and_unknown_truths_count_nowhere():
    truth, score, bootstrap, _ = cases()
    score[:2] = 0, 1
    holes = truth.copy()
    holes[::7] = np.nan
    known = ~np.isnan(holes)
    one, other = label_metrics(np.column_stack([truth, holes]), np.column_stack([score, score]), bootstrap)
    prevalence = truth.mean()
    assert one["log_loss"].value == pytest.approx(log_loss(truth, score), abs=1e-12)
    expected = 1 - brier_score_loss(truth, score) / (prevalence * (1 - prevalence))
    assert one["scaled_brier"].value == pytest.approx(expected, abs=1e-12)
    assert other["log_loss"].value == pytest.approx(log_loss(truth[known], score[known]), abs=1e-12)
    assert other["partial_auroc"].value == pytest.approx(roc_auc_score(truth[known], score[known], max_fpr=0.1))
    assert all(metric.low < metric.value < metric.high for metric in one.values())


def test_micro_auroc_and_hand_till_are_those_of_scikit_learn():
    random = np.random.default_rng(1)
    place = random.integers(4, size=250)
    scores = random.random((250, 4)) + 0.4 * np.eye(4)[place]
    scores /= scores.sum(axis=1, keepdims=True)
    bootstrap = PatientBootstrap(np.arange(250).astype(str), 100)
    micro, between = micro_auroc(np.eye(4)[place], scores, bootstrap), hand_till(place, scores, bootstrap)
    assert micro.value == pytest.approx(roc_auc_score(np.eye(4)[place], scores, average="micro"), abs=1e-12)
    assert between.value == pytest.approx(roc_auc_score(place, scores, multi_class="ovo"), abs=1e-12)
    assert micro.low < micro.value < micro.high and between.low < between.value < between.high
    assert np.isnan(hand_till(np.zeros(250, int), scores, bootstrap).value)


def test_the_difference_in_net_benefit_is_that_of_the_definition_and_0_of_a_model_with_itself():
    truth, score, bootstrap, _ = cases()
    other = np.random.default_rng(2).random(300)
    (found,) = net_benefit_difference(truth[:, None], score[:, None], other[:, None], 0.2, bootstrap)
    worth = np.where(truth == 1, 1, -0.25)
    assert found.value == pytest.approx((worth * (score >= 0.2)).mean() - (worth * (other >= 0.2)).mean(), abs=1e-12)
    assert found.low < found.value < found.high
    (same,) = net_benefit_difference(truth[:, None], score[:, None], score[:, None], 0.2, bootstrap)
    assert same.value == 0 and np.isnan(same.low)


def test_weighted_rates_are_those_of_scikit_learn():
    truth, score, bootstrap, weights = cases()
    found = weighted_metrics(truth, score, 0.5, weights, bootstrap)
    called = score >= 0.5
    assert found["sensitivity"].value == pytest.approx(recall_score(truth, called, sample_weight=weights), abs=1e-12)
    assert found["npv"].value == pytest.approx(np.average(truth[~called] == 0, weights=weights[~called]), abs=1e-12)
    assert found["brier"].value == pytest.approx(brier_score_loss(truth, score, sample_weight=weights), abs=1e-12)
    assert found["auroc"].value == pytest.approx(roc_auc_score(truth, score, sample_weight=weights), abs=1e-12)
    without = weighted_metrics(truth, score, np.nan, weights, bootstrap)
    assert np.isnan(without["ppv"].value) and without["ppv"].reason == "no threshold"


def test_an_enriched_set_with_weights_covers_the_values_of_its_population():
    random, covered, runs = np.random.default_rng(3), {"ppv": 0, "prevalence": 0}, 200
    population = 200_000
    ill = (random.random(population) < 0.05).astype(float)
    marks = 1 / (1 + np.exp(-random.normal(size=population) - 2 * ill + 1))
    true = {"ppv": ill[marks >= 0.6].mean(), "prevalence": ill.mean()}
    chance = np.where(marks >= 0.6, 0.006, 0.0015)  # cases with high scores are over-represented
    for _ in range(runs):
        taken = random.random(population) < chance
        bootstrap = PatientBootstrap(np.arange(taken.sum()).astype(str), 200)
        found = weighted_metrics(ill[taken], marks[taken], 0.6, 1 / chance[taken], bootstrap)
        for name in covered:
            covered[name] += found[name].low <= true[name] <= found[name].high
    assert all(0.9 <= hits / runs <= 0.99 for hits in covered.values())


def test_weights_are_read_by_case_and_refused_where_one_is_none():
    columns = pd.DataFrame({"w": ["2", "3.5", "1"], "bad": ["1", "", "2"], "text": ["a", "b", "c"]}, index=list("abc"))
    assert case_weights(columns, ["c", "a"], "w").tolist() == [1, 2]
    assert effective_size(np.array([1.0, 1, 1, 1])) == 4 > effective_size(np.array([1.0, 1, 1, 9]))
    for name in ("bad", "text"):
        with pytest.raises(DataError, match="no number above 0"):
            case_weights(columns, list("abc"), name)
    with pytest.raises(UserError, match="no column"):
        case_weights(columns, list("abc"), "weight")
