"""Two models at their own thresholds: differences, McNemar's test, and what the comparison tells of both."""

import numpy as np
import pandas as pd
import pytest
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Evaluation, compare
from clinvit.eval.statistics.compare import paired_tests
from clinvit.eval.statistics.compare_decisions import compare_decisions
from clinvit.eval.statistics.delong import delong_test
from clinvit.eval.statistics.mcnemar import mcnemar
from clinvit.eval.statistics.resampling import PatientBootstrap
from scipy.stats import binomtest, norm

HALF = (np.array([0.5]), np.array([0.5]))


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_by_hand():
    truth = column(1, 1, 1, 1, 0, 0, np.nan)
    first, second = column(0.9, 0.9, 0.9, 0.1, 0.1, 0.9, 0.9), column(0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1)
    found = compare_decisions(truth, (first, second), HALF, PatientBootstrap(np.arange(7), 200))
    assert found.sensitivity[0].value == pytest.approx(3 / 4 - 2 / 4)
    assert found.specificity[0].value == pytest.approx(1 / 2 - 2 / 2)
    assert (found.only_first[0], found.only_second[0]) == (2, 2)
    assert np.isnan([found.p[0], found.adjusted[0]]).all()  # of 4 patients, as there is no interval either
    assert "4 patients only" in found.sensitivity[0].reason


def test_a_label_without_threshold_is_undefined_and_no_test():
    generator = np.random.default_rng(0)
    truth = (generator.random((80, 3)) < 0.5).astype(float)
    truth[:, 2] = 0
    scores = [np.clip(truth * strength + generator.random((80, 3)) * 0.6, 0, 1) for strength in (0.4, 0.05)]
    cuts = np.array([0.5, np.nan, 0.5]), np.full(3, 0.5)
    found = compare_decisions(truth, tuple(scores), cuts, PatientBootstrap(np.arange(80), 200))
    assert found.sensitivity[1].reason == "a model has no threshold"
    assert found.sensitivity[2].reason == "no positive case"
    assert found.specificity[2].reason != "no negative case"
    assert np.isnan(found.p[1:]).all() and found.adjusted[0] == found.p[0]


@pytest.mark.parametrize(("positives", "given"), [(1, False), (9, False), (10, True)])
def test_a_rare_finding_has_neither_interval_nor_p(positives, given):
    generator, truth = np.random.default_rng(1), column(*[1] * positives, *[0] * 90)
    scores = tuple(generator.random(truth.shape) for _ in range(2))
    bootstrap = PatientBootstrap(np.arange(len(truth)), 50)
    decided, (test,) = compare_decisions(truth, scores, HALF, bootstrap), paired_tests(truth, *scores, bootstrap)
    for p in (decided.p[0], decided.adjusted[0], test.p, test.difference.low):
        assert np.isnan(p) != given
    assert given or "fewer than 10" in test.difference.reason or "one patient only" in test.difference.reason


def test_delong_of_few_patients_is_wider_and_of_many_the_same():
    generator = np.random.default_rng(2)
    for positives in (10, 99, 100, 300):
        truth = column(*[1] * positives, *[0] * 400)
        first, second = (truth + generator.normal(size=truth.shape) for _ in range(2))
        bootstrap = PatientBootstrap(np.arange(len(truth)), 50)
        plain = delong_test(truth[:, 0], first[:, 0], second[:, 0])
        (own,) = paired_tests(truth, first, second, bootstrap)
        assert own.z == plain.z and own.difference.value == plain.difference.value
        assert (own.p > plain.p) == (own.difference.low < plain.difference.low) == (positives < 100)
        assert (own.p < 0.05) == (own.difference.low > 0 or own.difference.high < 0)


def test_one_case_per_patient_is_the_exact_binomial_test():
    for only_first, only_second in [(5, 1), (40, 22), (700, 800), (0, 3)]:
        gap = np.repeat([1, -1, 0], [only_first, only_second, 50])
        expected = binomtest(only_first, only_first + only_second).pvalue
        assert mcnemar(gap, np.arange(len(gap))) == pytest.approx(expected, rel=1e-9)


def test_many_patients_with_several_cases():
    """Long arrays are convolved by FFT; the normal approximation says about the same."""
    generator = np.random.default_rng(1)
    patient = np.repeat(np.arange(30_000), 4)
    gap = generator.choice([1, -1, 0], size=len(patient), p=[0.11, 0.10, 0.79])
    balance = np.bincount(patient, weights=gap)
    z = balance.sum() / np.sqrt((balance**2).sum())
    assert mcnemar(gap, patient) == pytest.approx(2 * norm.sf(abs(z)), rel=0.03)


def test_compare_tells_calls_disagreements_and_adjusted_p(tmp_path):
    generator = np.random.default_rng(3)
    truth = (generator.random((120, 3)) < 0.4).astype(float)
    cases = pd.DataFrame({"id": [f"c{i}" for i in range(120)], "patient": np.arange(120) // 2, "split": "test"})
    tables = []
    for name, gain in {"a": 0.5, "b": 0.3}.items():
        scores = np.clip(truth * gain + generator.random(truth.shape) * 0.5, 0, 1)
        write_predictions(tmp_path / name, predictions_table(cases, ["x", "y", "z"], truth, scores, [""] * 120))
        tables.append(read_predictions(tmp_path / name))
    cuts = {"x": 0.5, "y": 0.5}, {"x": 0.4, "y": 0.4, "z": 0.4}
    found = compare(*tables, Evaluation(resamples=200), thresholds=cuts)
    raw = np.array([test.p for test in found.tests])
    assert (found.adjusted >= raw).all()
    assert found.adjusted.min() == pytest.approx(min(1, 3 * raw.min()))
    assert np.isnan(found.decisions.p[2])
    x = found.disagreements[found.disagreements["label"] == "x"]
    assert (x["first_predicted"] == (x["first"] >= 0.5)).all()
    assert found.disagreements.loc[found.disagreements["label"] == "z", "first_predicted"].isna().all()
    assert compare(*tables, Evaluation(resamples=50)).decisions is None
    bca = compare(*tables, Evaluation(resamples=200, interval="bca", stratify=True))
    assert {estimate.method for estimate in bca.differences["auroc"]} == {"bootstrap, bca"}
    assert bca.differences["auroc"][0].value == found.differences["auroc"][0].value
