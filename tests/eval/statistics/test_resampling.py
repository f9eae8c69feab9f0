"""Resamples of patients: drawn in strata, independently among very many, left out for BCa intervals."""

import numpy as np
import pytest
from clinvit.eval import Evaluation
from clinvit.eval.statistics import resampling
from clinvit.eval.statistics.intervals import estimates, macro_estimate, percentile
from clinvit.eval.statistics.metrics import auroc
from clinvit.eval.statistics.resampling import (
    PatientBootstrap,
    PatientJackknife,
    patient_bootstrap,
    rarest_finding,
    shared_resamples,
)
from scipy.stats import bootstrap as scipy_bootstrap
from sklearn.metrics import roc_auc_score


def skewed(cases: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).exponential(size=(cases, 1))


def mean(weights, values: np.ndarray) -> dict[str, np.ndarray]:
    sums = weights.sums(np.column_stack([values, np.ones(len(values))]))
    return {"mean": sums[:, :1] / sums[:, 1:]}


@pytest.mark.parametrize("seed", range(3))
def test_bca_is_scipys_on_the_same_resamples(seed):
    values = skewed(seed=seed)
    bootstrap = PatientBootstrap(np.arange(40).astype(str), 500, seed, bca=True)
    drawn = bootstrap.drawn(lambda weights: mean(weights, values))["mean"]
    ours = estimates(values.mean(axis=0), drawn, [""])[0]

    class Drawn:
        bootstrap_distribution = drawn.resampled[:, 0]

    theirs = scipy_bootstrap((values[:, 0],), np.mean, n_resamples=0, bootstrap_result=Drawn, method="BCa")
    assert ours.method == "bootstrap, bca"
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, rel=1e-9)
    plain = percentile(float(values.mean()), drawn.resampled[:, 0])
    assert ours.high > plain.high  # a metric skewed to the right


def test_bca_of_an_auroc_is_scipys():
    generator = np.random.default_rng(4)
    truth = np.repeat([0.0, 1.0], [50, 20])
    scores = generator.normal(size=70) + 2 * truth
    bootstrap = PatientBootstrap([f"{i:02d}" for i in range(70)], 400, 4, bca=True)
    drawn = bootstrap.drawn(lambda weights: weights.ranks(truth[:, None], scores[:, None]))["auroc"]
    value = auroc(truth[:, None], scores[:, None])

    class Drawn:
        bootstrap_distribution = drawn.resampled[:, 0]

    theirs = scipy_bootstrap(
        (truth, scores), lambda y, p: float(auroc(y[:, None], p[:, None])[0]), n_resamples=0,
        bootstrap_result=Drawn, method="BCa", paired=True, vectorized=False,
    )  # fmt: skip
    ours = estimates(value, drawn, [""])[0]
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, rel=1e-9)


def test_a_patient_with_many_cases_is_left_out_as_one(monkeypatch):
    patients = np.array(["a", "a", "a", "b", "c"])
    values = np.array([[1.0], [2], [3], [10], [20]])
    jackknife = PatientJackknife(patients, 0, [np.arange(3)])
    left_out = mean(jackknife, values)["mean"][:, 0]
    assert left_out == pytest.approx([15, 26 / 4, 16 / 4])
    influence = left_out.mean() - left_out
    assert jackknife.acceleration(left_out[:, None])[0] == pytest.approx(
        (influence**3).sum() / 6 / (influence**2).sum() ** 1.5
    )
    assert jackknife.acceleration(np.full((3, 1), 0.7))[0] == 0
    monkeypatch.setattr(resampling, "_LEFT_OUT", 2)
    grouped = PatientJackknife(patients, 0, [np.arange(3)])
    assert grouped.resamples == 2
    removed = np.concatenate(list(grouped.counts()), axis=1) == 0
    assert (removed.sum(axis=1) == 1).all()  # every patient is left out once


def test_groups_of_patients_give_the_same_acceleration(monkeypatch):
    values = skewed(3000)
    one_by_one, found = None, []
    for most in (3000, 750):
        monkeypatch.setattr(resampling, "_LEFT_OUT", most)
        jackknife = PatientJackknife(np.arange(3000).astype(str), 1, [np.arange(3000)])
        found.append(float(jackknife.acceleration(mean(jackknife, values)["mean"])[0]))
    one_by_one, grouped = found
    assert one_by_one == pytest.approx(2 / 6 / np.sqrt(3000), rel=0.3)  # the exponential's skewness is 2
    assert grouped == pytest.approx(one_by_one, abs=0.003)


def test_every_resample_on_one_side_has_no_bca_interval():
    assert "one side" in percentile(0.9, np.linspace(0.1, 0.5, 50), acceleration=0.0).reason
    assert percentile(0.5, np.linspace(0.1, 0.9, 101), acceleration=0.0).low == pytest.approx(0.12)


def test_strata_are_the_rarest_finding_of_a_patient():
    nan = np.nan
    truth = np.array([[1, 0], [1, 1], [1, nan], [0, 0], [nan, 0], [0, 0]])
    patients = ["a", "b", "c", "d", "d", "c"]
    assert rarest_finding(truth, patients).tolist() == [0, 1, 0, 2, 2, 0]
    single = np.array([[1.0], [0], [0], [nan]])
    assert rarest_finding(single, list("abbc")).tolist() == [0, 1, 1, 1]


def test_stratified_resamples_keep_the_classes():
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 2).astype(str)
    truth = np.repeat(generator.permutation(np.repeat([0.0, 1.0], [57, 3])), 2)[:, None]
    drawn = {}
    for stratify in (False, True):
        bootstrap = Evaluation(resamples=200, seed=1, stratify=stratify).bootstrap(patients, truth)
        drawn[stratify] = bootstrap.sums(truth)[:, 0]
        assert (np.concatenate(list(bootstrap.counts()), axis=1).sum(axis=0) == 60).all()
    assert set(drawn[True]) == {6.0}
    assert {0.0, 12.0} <= set(drawn[False])


def test_independent_counts_among_very_many_patients_agree_with_drawing(monkeypatch):
    generator = np.random.default_rng(2)
    truth = (generator.random((4000, 1)) < 0.2).astype(float)
    scores = generator.normal(size=(4000, 1)) + truth
    widths = {}
    for name, most in {"drawn": 10_000, "independent": 100}.items():
        monkeypatch.setattr(resampling, "_POISSON", most)
        bootstrap = PatientBootstrap(np.arange(4000), 1500, 3)
        counts = np.concatenate(list(bootstrap.counts()), axis=1)
        assert counts.mean() == pytest.approx(1, abs=0.002)
        assert (counts == 0).mean() == pytest.approx(np.exp(-1), abs=0.002)
        assert ((counts.sum(axis=0) == 4000).all()) == (name == "drawn")
        widths[name] = bootstrap.ranks(truth, scores)["auroc"].std()
    assert widths["independent"] == pytest.approx(widths["drawn"], rel=0.07)


def test_macro_mean_has_a_bca_interval():
    generator = np.random.default_rng(5)
    truth = (generator.random((80, 3)) < [0.5, 0.2, 0.3]).astype(float)
    scores = generator.normal(size=(80, 3)) + 2 * truth
    bootstrap = PatientBootstrap(np.arange(80), 400, 0, bca=True)
    drawn = bootstrap.drawn(lambda weights: weights.ranks(truth, scores))["auroc"]
    estimate = macro_estimate(auroc(truth, scores), drawn)
    assert estimate.method == "bootstrap, bca"
    assert estimate.low < estimate.value < estimate.high


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_cases_are_added_up_piece_by_piece_to_the_same_sums(monkeypatch, at_once):
    monkeypatch.setattr("clinvit.eval.statistics.resampling._AT_ONCE", at_once)
    rng = np.random.default_rng(3)
    patients, cases = [f"p{i}" for i in rng.integers(0, 20, 60)], rng.normal(size=(60, 1)).round(1)
    truth, groups = (rng.random((60, 1)) < 0.4).astype(float), rng.integers(-1, 6, (60, 2))
    bootstrap = PatientBootstrap(patients, 50, 1)
    counts = np.concatenate(list(bootstrap.counts()), axis=1)[bootstrap.index]  # (N, R)
    wanted = [[(counts * (groups == group).sum(axis=1)[:, None]).sum(axis=0)] for group in range(6)]
    np.testing.assert_array_equal(bootstrap.tallies(groups, 6), np.concatenate(wanted).T)
    found = bootstrap.ranks(truth, cases)["auroc"][:, 0]
    auroc = [roc_auc_score(truth[:, 0], cases[:, 0], sample_weight=column) for column in counts.T]
    np.testing.assert_allclose(found, auroc, rtol=1e-12)


def test_the_same_patients_share_their_resamples_while_a_report_is_made():
    names = ["a", "b", "b", "c"]
    strata = np.array([0, 1, 1, 1])
    assert patient_bootstrap(names, 9, 0) is not patient_bootstrap(names, 9, 0)
    with shared_resamples():
        first = patient_bootstrap(names, 9, 0)
        assert patient_bootstrap(list(names), 9, 0) is first
        others = [(names, 9, 1), (names, 8, 0), (["a", "b", "c", "c"], 9, 0), (names, 9, 0, strata), (names[:3], 9, 0)]
        assert all(patient_bootstrap(*asked) is not first for asked in others)
        of_strata = patient_bootstrap(names, 9, 0, strata)
        assert patient_bootstrap(names, 9, 0, strata.copy()) is of_strata
        assert patient_bootstrap(names, 9, 0, strata[::-1]) is not of_strata
        counts, alone = (np.concatenate(list(one.counts()), axis=1) for one in (first, PatientBootstrap(names, 9, 0)))
        np.testing.assert_array_equal(counts, alone)
    assert patient_bootstrap(names, 9, 0) is not first
