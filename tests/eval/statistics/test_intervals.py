"""The bootstrap by patient against scikit-learn, DeLong against all pairs, coverage by simulation."""

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Evaluation, compare
from clinvit.eval.statistics.delong import delong, delong_interval, delong_test
from clinvit.eval.statistics.intervals import PatientBootstrap, macro_percentile, percentile, proportions, wilson
from clinvit.eval.statistics.metrics import auroc
from clinvit.eval.statistics.reservations import widened_p
from clinvit.eval.statistics.small_samples import exact
from sklearn.metrics import average_precision_score, roc_auc_score


def clustered(seed: int, patients: int = 40, images: int = 5, alike: float = 1.5):
    """Images of one patient share a truth and part of the score."""
    generator = np.random.default_rng(seed)
    of = np.repeat(np.arange(patients), images)
    truth = (generator.random(patients) < 0.4).astype(float)[of]
    latent = truth + alike * generator.normal(size=patients)[of] + generator.normal(size=len(of))
    return truth[:, None], 1 / (1 + np.exp(-latent))[:, None], of.astype(str)


@pytest.mark.parametrize("digits", [8, 1])
def test_each_resample_is_what_scikit_learn_says(digits):
    generator = np.random.default_rng(0)
    patients = generator.integers(30, size=120).astype(str)
    truth = (generator.random((120, 3)) < [0.5, 0.1, 0.8]).astype(float)
    truth[generator.random(truth.shape) < 0.1] = np.nan
    scores = generator.random(truth.shape).round(digits)
    bootstrap = PatientBootstrap(patients, 50, 3)
    draws = bootstrap.ranks(truth, scores)
    counts = np.concatenate(list(bootstrap.counts()), axis=1)
    assert (counts.sum(axis=0) == bootstrap.size).all()
    for resample in range(50):
        rows = np.repeat(np.arange(120), counts[bootstrap.index, resample])
        for label in range(3):
            y, p = truth[rows, label], scores[rows, label]
            y, p = y[~np.isnan(y)], p[~np.isnan(y)]
            if len(np.unique(y)) < 2:
                assert np.isnan(draws["auroc"][resample, label])
                continue
            assert draws["auroc"][resample, label] == pytest.approx(roc_auc_score(y, p), abs=1e-12)
            expected = average_precision_score(y, p)
            assert draws["average_precision"][resample, label] == pytest.approx(expected, abs=1e-12)


def test_same_seed_same_draws_in_blocks_of_any_size_and_rows_in_any_order(monkeypatch):
    truth, scores, patients = clustered(0)
    whole = PatientBootstrap(patients, 100, 7).ranks(truth, scores)["auroc"]
    order = np.random.default_rng(0).permutation(len(truth))
    monkeypatch.setattr("clinvit.eval.statistics.resampling._BLOCK", 1)
    monkeypatch.setattr("clinvit.eval.statistics.resampling._KEPT", 0)
    again = PatientBootstrap(patients[order], 100, 7).ranks(truth[order], scores[order])["auroc"]
    np.testing.assert_array_equal(whole, again)
    assert (PatientBootstrap(patients, 100, 8).ranks(truth, scores)["auroc"] != whole).any()


def test_interval_by_patient_is_wider_than_by_image():
    truth, scores, patients = clustered(1)
    widths = []
    for unit in (patients, np.arange(len(patients))):
        low, high = np.quantile(PatientBootstrap(unit, 500).ranks(truth, scores)["auroc"], [0.025, 0.975])
        widths.append(high - low)
    assert widths[0] > 1.3 * widths[1]
    by_patient = delong_interval(truth[:, 0], scores[:, 0], patients)
    by_image = delong_interval(truth[:, 0], scores[:, 0])
    assert by_patient.high - by_patient.low > 1.3 * (by_image.high - by_image.low)
    # Obuchowski's interval and the bootstrap by patient answer the same question.
    assert by_patient.high - by_patient.low == pytest.approx(widths[0], rel=0.2)


def test_coverage_of_bootstrap_and_delong():
    """Binormal scores with a known AUROC: 95 % intervals should cover it in about 95 % of samples."""
    generator = np.random.default_rng(5)
    true = 0.7602499389065233  # normal CDF of 1 / sqrt(2)
    truth = np.repeat([0.0, 1.0], [60, 40])
    covered = np.zeros(2)
    samples = 300
    for sample in range(samples):
        score = generator.normal(size=100) + truth
        draws = PatientBootstrap(np.arange(100), 200, sample).ranks(truth[:, None], score[:, None])["auroc"]
        low, high = np.quantile(draws, [0.025, 0.975])
        other = delong_interval(truth, score)
        covered += [low <= true <= high, other.low <= true <= other.high]
    assert (covered / samples > 0.90).all()
    assert (covered / samples < 0.985).all()


def test_macro_mean_counts_resamples_that_miss_a_label():
    generator = np.random.default_rng(2)
    truth = (generator.random((60, 2)) < 0.5).astype(float)
    truth[:, 1] = 0
    truth[:2, 1] = 1
    scores = generator.random(truth.shape)
    draws = PatientBootstrap(np.arange(60), 400).ranks(truth, scores)["auroc"]
    estimate = macro_percentile(auroc(truth, scores), draws)
    assert estimate.undefined == np.isnan(draws).any(axis=1).sum() > 20
    assert estimate.low < estimate.value < estimate.high
    assert macro_percentile(np.array([np.nan]), draws[:, :1]).reason == "no label is defined"


def test_one_patient_with_the_finding_has_no_interval():
    assert "one patient only" in percentile(0.9, np.linspace(0.8, 1, 50), few=1).reason
    assert np.isnan(percentile(0.9, np.linspace(0.8, 1, 50), few=1).low)
    assert "4 patients only" in percentile(0.9, np.linspace(0.8, 1, 50), few=4).reason
    assert np.isnan(percentile(0.9, np.linspace(0.8, 1, 50), few=9).low)


def test_wilson_against_the_published_example():
    # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3: 81 of 263 and 0 of 20.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert np.isnan(wilson(0, 0)).all()


def test_proportions_choose_their_method():
    hits = np.array([[1, 1, np.nan], [0, 1, np.nan], [1, 1, np.nan], [0, 1, np.nan]])
    single = proportions(hits, PatientBootstrap(["a", "b", "c", "d"], 200), ["", "", "no case"])
    assert [e.method for e in single] == ["exact", "exact", ""]
    assert single[2].reason == "no case"
    assert np.isnan(single[2].value)
    grouped = proportions(hits, PatientBootstrap(["a", "a", "b", "c"], 200), ["", "", "no case"])
    assert [e.method for e in grouped] == ["exact, effective sample size", "exact, patients for cases", ""]
    assert grouped[1].low == pytest.approx(exact(3, 3)[0])


def all_pairs(truth, scores):
    """DeLong 1988, equations 3-6, pair by pair."""
    above, below = [], []
    for score in scores.T:
        psi = (score[truth == 1][:, None] > score[truth == 0]) + 0.5 * (score[truth == 1][:, None] == score[truth == 0])
        above.append(psi.mean(axis=1))
        below.append(psi.mean(axis=0))
    return np.mean(above, axis=1), np.cov(above) / len(above[0]) + np.cov(below) / len(below[0])


def test_delong_agrees_with_all_pairs():
    generator = np.random.default_rng(3)
    truth = (generator.random(80) < 0.3).astype(float)
    scores = (generator.normal(size=(80, 2)) + truth[:, None]).round(1)
    found = delong(truth, scores)
    area, covariance = all_pairs(truth, scores)
    np.testing.assert_allclose(found.auroc, area, atol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-12)
    test = delong_test(truth, scores[:, 0], scores[:, 1])
    contrast = np.array([1, -1])
    assert test.z == pytest.approx((area[0] - area[1]) / np.sqrt(contrast @ covariance @ contrast))


def test_delong_does_not_depend_on_names_nor_on_cases_without_truth():
    rng = np.random.default_rng(5)
    truth = (rng.random(120) < 0.4).astype(float)
    scores, patients = rng.random((120, 2)) + 0.3 * truth[:, None], rng.integers(0, 50, 120)
    expected = delong(truth, scores, patients)
    truth, scores = np.append(truth, [np.nan] * 2), np.vstack([scores, rng.random((2, 2))])
    named = [f"P{97 * number % 89}" for number in patients] + ["of no truth", "P0"]
    found = delong(truth, scores, named)
    np.testing.assert_allclose(found.auroc, expected.auroc, rtol=1e-13)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-12)


def test_delong_undefined():
    assert delong_interval(np.zeros(4), np.arange(4.0)).reason == "one class only"
    truth = np.array([0.0, 0, 1, 1])
    assert delong_interval(truth, np.arange(4.0)).reason == "no variance between the cases"
    assert "one patient" in delong_interval(truth, np.array([0.1, 0.5, 0.4, 0.9]), list("abcc")).reason
    assert np.isnan(delong_test(truth, np.arange(4.0), np.arange(4.0)).p)


def write(path, ids, truth, scores, failed=(), patients=None):
    cases = pd.DataFrame({"id": ids, "patient": patients if patients is not None else ids, "split": "test"})
    reasons = ["broken" if i in failed else "" for i in ids]
    write_predictions(path, predictions_table(cases, ["mass"], truth, scores, reasons))
    return read_predictions(path)


def test_compare_two_models_on_the_same_cases(tmp_path):
    generator = np.random.default_rng(4)
    ids = [f"c{i}" for i in range(100)]
    truth = (generator.random((100, 1)) < 0.5).astype(float)
    good = 1 / (1 + np.exp(-generator.normal(size=(100, 1)) - 3 * truth))
    a = write(tmp_path / "a.csv", ids, truth, good, failed=("c3",))
    b = write(tmp_path / "b.csv", ids[::-1], truth[::-1], generator.random((100, 1)), failed=("c4",))
    found = compare(a, b, Evaluation(resamples=300))
    assert (found.cases, found.left_out) == (98, 2)
    assert found.macro["auroc"].low > 0
    ill = int(np.delete(truth[:, 0], [3, 4]).sum())
    assert found.p["auroc"] == pytest.approx(widened_p(2 / 301, min(ill, 98 - ill)))
    assert found.tests[0].p < 0.001
    gap = (found.disagreements["first"] - found.disagreements["second"]).abs()
    assert gap.is_monotonic_decreasing
    same = compare(a, a, Evaluation(resamples=50))
    assert (same.macro["auroc"].value, same.p["auroc"]) == (0, 1)
    assert same.disagreements.empty


@pytest.mark.parametrize("what", ["ids", "truth", "patient", "label"])
def test_compare_refuses_other_cases(tmp_path, what):
    ids, truth, scores = ["a", "b", "c"], np.array([[0.0], [1], [np.nan]]), np.full((3, 1), 0.5)
    one = write(tmp_path / "one.csv", ids, truth, scores)
    changed = {"ids": ids, "truth": truth.copy(), "patients": list(ids)}
    if what == "ids":
        changed["ids"] = ["a", "b", "d"]
    elif what == "truth":
        changed["truth"][2] = 1
    elif what == "patient":
        changed["patients"][1] = "z"
    two = write(tmp_path / "two.csv", changed["ids"], changed["truth"], scores, patients=changed["patients"])
    if what == "label":
        text = (tmp_path / "two.csv").read_text().replace("_mass", "_nodule")
        (tmp_path / "two.csv").write_text(text)
        two = read_predictions(tmp_path / "two.csv")
    said = {
        "ids": "'c'",
        "truth": "unknown in one and 1",
        "patient": "patient of case 'b'",
        "label": "no label",
    }
    with pytest.raises(DataError, match=said[what]):
        compare(one, two)
