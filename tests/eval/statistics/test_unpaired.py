"""A group against all other cases: DeLong where nothing is shared, the bootstrap by patient where patients are."""

import numpy as np
import pytest
from clinvit.eval.statistics.delong import delong
from clinvit.eval.statistics.resampling import PatientBootstrap
from clinvit.eval.statistics.unpaired import auroc_gaps, differences, mean_gaps
from scipy.stats import norm
from sklearn.metrics import roc_auc_score


def cases(generator, patients, per_patient=1, shared=False, prevalence=0.3, share=0.4):
    """Truth, score, inside (N, 1) and patient; a patient's cases are alike, and all in one group unless shared."""
    of = np.repeat(np.arange(patients), per_patient)
    truth = (generator.random(len(of)) < prevalence).astype(float)
    score = truth + generator.normal(size=patients)[of] * (per_patient > 1) + generator.normal(size=len(of))
    inside = generator.random(len(of)) < share if shared else (generator.random(patients) < share)[of]
    return truth, score, inside[:, None], of


def test_independent_groups_are_delong_exactly():
    truth, score, inside, of = cases(np.random.default_rng(0), 300)
    truth[::7] = np.nan
    (found,), (p,) = differences(auroc_gaps(truth, score, inside, of, 300))
    one, two = (delong(truth[rows], score[rows, None]) for rows in (inside[:, 0], ~inside[:, 0]))
    error = np.sqrt(one.covariance[0, 0] + two.covariance[0, 0])
    gap = one.auroc[0] - two.auroc[0]
    assert found.value == pytest.approx(gap, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((gap - 1.959964 * error, gap + 1.959964 * error), abs=1e-6)
    assert p == pytest.approx(2 * norm.sf(abs(gap) / error), rel=1e-9)


def test_shared_patients_agree_with_resampling_them():
    generator = np.random.default_rng(1)
    truth, score, inside, of = cases(generator, 150, 4, shared=True)
    right = ((score > 0.5) == truth).astype(float)
    truth_in, truth_out = (np.where(rows, truth[:, None], np.nan) for rows in (inside, ~inside))
    bootstrap = PatientBootstrap(of.astype(str), 2000)
    both = bootstrap.ranks(np.hstack([truth_in, truth_out]), np.column_stack([score, score]))["auroc"]
    sums = bootstrap.sums(np.column_stack([right * inside[:, 0], inside, right * ~inside[:, 0], ~inside]))
    for gaps, draws in (
        (auroc_gaps(truth, score, inside, of, 150), both[:, 0] - both[:, 1]),
        (mean_gaps(right, inside, of, 150), sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]),
    ):
        (found,), _ = differences(gaps)
        assert (found.high - found.low) / 2 / 1.96 == pytest.approx(draws.std(), rel=0.07)
        assert (found.low, found.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.02)


def test_values_are_those_of_scikit_learn_with_ties():
    truth, score, inside, of = cases(np.random.default_rng(2), 200)
    score = score.round()
    expected = roc_auc_score(truth[inside[:, 0]], score[inside[:, 0]])
    expected -= roc_auc_score(truth[~inside[:, 0]], score[~inside[:, 0]])
    assert auroc_gaps(truth, score, inside, of, 200).values[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("truth", "score", "patient", "defined"),
    [
        ([1, 1, 0, 1, 0], [0.9, 0.8, 0.1, 0.7, 0.2], [0, 1, 2, 3, 4], False),  # inside there is one class only
        ([1, 0, 0, 1, 0], [0.9, 0.8, 0.1, 0.7, 0.2], [0, 1, 2, 3, 4], True),  # one positive patient on each side
        ([1, 0, 1, 0, 1, 0, 1, 0], [0.9, 0.1] * 4, range(8), True),  # nothing varies
    ],
)
def test_no_interval_and_no_p(truth, score, patient, defined):
    inside = np.arange(len(truth))[:, None] < len(truth) // 2
    gaps = auroc_gaps(np.array(truth, dtype=float), np.array(score), inside, np.array(patient), len(truth))
    (found,), (p,) = differences(gaps)
    assert np.isnan([found.low, found.high, p]).all()
    assert np.isnan(found.value) != defined


@pytest.mark.parametrize(("per_patient", "shared"), [(1, False), (3, False), (3, True)])
def test_rejects_five_percent_under_the_null(per_patient, shared):
    generator = np.random.default_rng(3)
    p = []
    for _ in range(400):
        truth, score, inside, of = cases(generator, 120, per_patient, shared)
        p.append(differences(auroc_gaps(truth, score, inside, of, 120))[1][0])
    assert 0.025 <= np.mean(np.array(p) < 0.05) <= 0.085
