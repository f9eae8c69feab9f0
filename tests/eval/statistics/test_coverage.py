"""Do 95 % intervals cover the truth, and do paired tests reject a true null hypothesis in about 5 %? By simulation.

The limits allow for the noise of so many samples (3.5 standard errors) and for what is known of the method.
"""

import numpy as np
import pytest
from clinvit.eval import Evaluation
from clinvit.eval.statistics.calibration_fit import calibration_fit
from clinvit.eval.statistics.compare import _differences, _two_sided_p
from clinvit.eval.statistics.delong import delong_interval, delong_test
from clinvit.eval.statistics.intervals import Estimate, auroc_estimates, estimates, proportions
from clinvit.eval.statistics.mcnemar import mcnemar
from clinvit.eval.statistics.metrics import auroc
from clinvit.eval.statistics.resampling import PatientBootstrap
from clinvit.eval.statistics.reservations import FEW
from clinvit.eval.statistics.small_samples import auroc_interval
from scipy.stats import norm


def noise(share: float, samples: int) -> float:
    return 3.5 * np.sqrt(share * (1 - share) / samples)


def binormal(generator, positives: int, negatives: int, images: int = 1, alike: float = 0.0):
    """Truth, score and patient; `alike` is the share of the score's variance that images of a patient share."""
    patients = positives + negatives
    of = np.repeat(np.arange(patients), images)
    truth = np.repeat([1.0, 0.0], [positives, negatives])[of]
    shared, own = generator.normal(size=patients)[of], generator.normal(size=len(of))
    return truth, truth * 1.2 + np.sqrt(alike) * shared + np.sqrt(1 - alike) * own, of.astype(str)


AREA = norm.cdf(1.2 / np.sqrt(2))


def coverage(samples: int, resamples: int, cohort: dict, settings: dict) -> dict[str, float]:
    """How often the intervals of DeLong and of the bootstrap hold the true AUROC."""
    generator, covered = np.random.default_rng(0), dict.fromkeys(["delong", *settings], 0)
    for sample in range(samples):
        truth, score, patient = binormal(generator, **cohort)
        found = {"delong": delong_interval(truth, score, patient)}
        for name, options in settings.items():
            bootstrap = Evaluation(resamples=resamples, seed=sample, **options).bootstrap(patient, truth[:, None])
            drawn = bootstrap.drawn(
                lambda weights, truth=truth, score=score: weights.ranks(truth[:, None], score[:, None])
            )["auroc"]
            found[name] = estimates(auroc(truth[:, None], score[:, None]), drawn, [""])[0]
        for name, estimate in found.items():
            covered[name] += estimate.low <= AREA <= estimate.high
    return {name: hits / samples for name, hits in covered.items()}


def area(truth: np.ndarray, score: np.ndarray, bootstrap: PatientBootstrap) -> Estimate:
    drawn = bootstrap.drawn(lambda weights: weights.ranks(truth, score))["auroc"]
    return estimates(auroc(truth, score), drawn, [""])[0]


SETTINGS = {
    "percentile": {},
    "bca": {"interval": "bca"},
    "stratified": {"stratify": True},
    "stratified bca": {"interval": "bca", "stratify": True},
}
COHORTS = [
    {"positives": 60, "negatives": 90},
    {"positives": 40, "negatives": 40, "images": 3, "alike": 0.6},
]


@pytest.mark.parametrize("cohort", COHORTS, ids=["one image each", "three alike images each"])
def test_intervals_of_the_auroc_cover_it(cohort):
    for name, share in coverage(200, 199, cohort, SETTINGS).items():
        assert 0.94 - noise(0.94, 200) < share < 0.955 + noise(0.955, 200), name


@pytest.mark.thorough
@pytest.mark.parametrize("cohort", COHORTS, ids=["one image each", "three alike images each"])
def test_intervals_of_the_auroc_cover_it_in_many_samples(cohort):
    found = coverage(800, 399, cohort, SETTINGS)
    for name, share in found.items():
        assert 0.94 - noise(0.94, 800) < share < 0.955 + noise(0.955, 800), found | {"worst": name}


def test_intervals_by_image_would_not_cover():
    generator, covered = np.random.default_rng(1), 0
    for _ in range(200):
        truth, score, _ = binormal(generator, 40, 40, images=5, alike=0.8)
        estimate = delong_interval(truth, score)
        covered += estimate.low <= AREA <= estimate.high
    assert covered / 200 < 0.85


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_intervals_of_sensitivity_cover_it(share):
    generator, covered, samples = np.random.default_rng(2), np.zeros(2), 300
    for sample in range(samples):
        alone = (generator.random(80) < share).astype(float)
        # Two images of a patient are called alike in half of the patients.
        twice = np.repeat((generator.random(80) < share).astype(float), 2)
        other = (generator.random(160) < share).astype(float)
        paired = np.where(np.repeat(generator.random(80) < 0.5, 2), twice, other)
        for place, (hits, patients) in enumerate([(alone, np.arange(80)), (paired, np.arange(160) // 2)]):
            estimate = proportions(hits[:, None], PatientBootstrap(patients, 199, sample), [""])[0]
            covered[place] += estimate.low <= share <= estimate.high
    assert (covered / samples > 0.93 - noise(0.93, samples)).all()
    assert (covered / samples < 0.965 + noise(0.965, samples)).all()


def rejections(samples: int, resamples: int, images: int) -> dict[str, float]:
    """Share of p below 0.05 where two models are equally good: their scores share a part and differ by noise."""
    generator, rejected = np.random.default_rng(3), {"delong": 0, "bootstrap": 0, "mcnemar": 0}
    for sample in range(samples):
        truth, common, patient = binormal(generator, 60, 60, images, alike=0.5)
        # What a model adds of its own is alike within a patient too.
        own = generator.normal(size=(2, 120, 1)) * 0.7 + generator.normal(size=(2, 120, images)) * 0.3
        first, second = (common + part.ravel() for part in own)
        bootstrap = PatientBootstrap(patient, resamples, sample)
        one, two = (bootstrap.ranks(truth[:, None], score[:, None])["auroc"][:, 0] for score in (first, second))
        gap = ((first > 0.6) == truth).astype(int) - ((second > 0.6) == truth)
        p = {
            "delong": delong_test(truth, first, second, patient).p,
            "bootstrap": _two_sided_p(one - two),
            "mcnemar": mcnemar(gap, bootstrap.index),
        }
        for name, value in p.items():
            rejected[name] += value < 0.05
    return {name: count / samples for name, count in rejected.items()}


def check(found: dict[str, float], samples: int) -> None:
    assert abs(found["delong"] - 0.05) < noise(0.05, samples) + 0.008
    assert abs(found["bootstrap"] - 0.05) < noise(0.05, samples) + 0.012
    assert 0.02 - noise(0.02, samples) < found["mcnemar"] < 0.05 + noise(0.05, samples)  # exact, so conservative


@pytest.mark.parametrize("images", [1, 3])
def test_paired_tests_reject_a_true_null_in_5_percent(images):
    check(rejections(250, 199, images), 250)


@pytest.mark.thorough
@pytest.mark.parametrize("images", [1, 3])
def test_paired_tests_reject_a_true_null_in_5_percent_of_many_samples(images):
    check(rejections(2000, 599, images), 2000)


@pytest.mark.parametrize("images", [1, 4])
def test_delong_and_bootstrap_agree(images):
    truth, score, patient = binormal(np.random.default_rng(6), 150, 300, images, alike=0.5)
    other = score + np.random.default_rng(7).normal(size=len(score))
    bootstrap = PatientBootstrap(patient, 2000, 1)
    one, two = (bootstrap.ranks(truth[:, None], each[:, None])["auroc"][:, 0] for each in (score, other))
    interval, test = delong_interval(truth, score, patient), delong_test(truth, score, other, patient)
    assert (interval.high - interval.low) / 2 / norm.ppf(0.975) == pytest.approx(one.std(), rel=0.06)
    assert test.difference.value / test.z == pytest.approx((one - two).std(), rel=0.06)


def test_the_published_example_of_ratings():
    """Hanley & McNeil 1982 (Radiology 143:29), table I: 51 abnormal and 58 normal CT images, rated 1 to 5: 0.893."""
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    score = np.concatenate([np.repeat(np.arange(1, 6) / 5, counts) for counts in (normal, abnormal)])
    estimate = delong_interval(np.repeat([0.0, 1.0], [58, 51]), score)
    assert estimate.value == pytest.approx(0.893, abs=5e-4)
    assert (estimate.high - estimate.low) / 2 / norm.ppf(0.975) == pytest.approx(0.032, abs=0.0015)  # theirs: 0.032


def rare_findings(generator, counts, patients=300, images=1, alike=0.0):
    """Truths with so many positive patients by finding, scores of two equally good models, and the patients."""
    of = np.repeat(np.arange(patients), images)
    truth = np.column_stack([np.isin(of, generator.choice(patients, n, replace=False)) for n in counts]).astype(float)

    def noise_of():
        shared, own = generator.normal(size=(patients, len(counts)))[of], generator.normal(size=truth.shape)
        return np.sqrt(alike) * shared + np.sqrt(1 - alike) * own

    common = truth * 1.2 + np.sqrt(0.5) * noise_of()
    return truth, *(common + np.sqrt(0.5) * noise_of() for _ in range(2)), of.astype(str)


@pytest.mark.parametrize("positives", [1, 3, 10])
@pytest.mark.parametrize(("images", "alike"), [(1, 0.0), (3, 0.6)])
def test_the_auroc_of_a_rare_finding_is_covered(positives, images, alike):
    generator, covered, samples = np.random.default_rng(11), 0, 200
    for sample in range(samples):
        truth, score, patient = binormal(generator, positives, 150, images, alike)
        bootstrap = PatientBootstrap(patient, 20, sample)
        truth, score = truth[:, None], score[:, None]
        drawn = bootstrap.drawn(lambda weights, t=truth, s=score: weights.ranks(t, s))["auroc"]
        found = auroc_estimates(truth, auroc(truth, score), drawn, [""], bootstrap)[0]
        covered += found.low <= AREA <= found.high
    assert covered / samples > 0.93 - noise(0.93, samples)  # above 97 %: the score interval is conservative here


def test_a_perfect_auroc_excludes_what_pairs_of_patients_make_unlikely():
    """All of k independent pairs are in the right order with chance A ** k: the bound holds for any scores."""
    assert auroc_interval(1.0, 3, 3, 3) == pytest.approx((0.025 ** (1 / 3), 1))
    assert auroc_interval(0.0, 3, 200, 101) == pytest.approx((0, 1 - 0.025 ** (1 / 3)))


@pytest.mark.parametrize("counts", [(1,), (3, 9), (40, 12, 10, 3, 1)])
def test_equal_models_with_rare_findings_are_seldom_called_different(counts):
    generator, samples, false, covered = np.random.default_rng(12), 100, 0, 0
    for sample in range(samples):
        truth, first, second, patient = rare_findings(generator, counts)
        bootstrap = PatientBootstrap(patient, 200, sample)
        kept = bootstrap.smaller_class(truth) >= FEW
        macro, _, p = _differences(truth, first, second, bootstrap, kept)
        if not kept.any():
            assert np.isnan([macro["auroc"].low, p["auroc"]]).all()
            continue
        false += p["auroc"] < 0.05
        covered += macro["auroc"].low <= 0 <= macro["auroc"].high
    assert false / samples < 0.06 + noise(0.06, samples)
    assert not kept.any() or covered / samples > 0.93 - noise(0.93, samples)


@pytest.mark.thorough
@pytest.mark.parametrize(("images", "alike"), [(1, 0.0), (3, 0.6)])
def test_calibration_is_covered_in_many_samples(images, alike):
    """Scores are right: slope 1, in the large 0; at 10 and 40 positive patients."""
    for mean in (-3.4, -1.6):
        generator, samples, hits = np.random.default_rng(13), 600, np.zeros((2, 600))
        for sample in range(samples):
            of = np.repeat(np.arange(300), images)
            odds = (mean + generator.normal(size=300))[of]
            truth = (norm.cdf(np.sqrt(alike) * generator.normal(size=300)[of] + np.sqrt(1 - alike)
                     * generator.normal(size=len(of))) < 1 / (1 + np.exp(-odds))).astype(float)  # fmt: skip
            fit = calibration_fit(truth, 1 / (1 + np.exp(-odds)), PatientBootstrap(of, 10))
            for place, (estimate, value) in enumerate([(fit.in_the_large, 0), (fit.slope, 1)]):
                hits[place, sample] = np.nan if np.isnan(estimate.low) else estimate.low <= value <= estimate.high
        assert (np.nanmean(hits, axis=1) > 0.93 - noise(0.93, samples)).all(), np.nanmean(hits, axis=1)
