"""Simulated studies whose truth is known: how often do the printed intervals hold it, and how often do tests err?

Every number is made by the same functions that make a report's. The table of all settings is written by

    uv run python tests/eval/simulations.py --runs 1000 --out docs/evidence/coverage.md
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from clinvit.eval.statistics.calibration_curve import calibration_curve
from clinvit.eval.statistics.calibration_fit import calibration_fit
from clinvit.eval.statistics.compare import _differences, paired_tests
from clinvit.eval.statistics.compare_decisions import compare_decisions
from clinvit.eval.statistics.holm import holm
from clinvit.eval.statistics.intervals import Estimate, believed_macro
from clinvit.eval.statistics.metrics import auroc, rates
from clinvit.eval.statistics.operating_points import OperatingPoint, transfer
from clinvit.eval.statistics.resampling import Drawn, PatientBootstrap
from clinvit.eval.statistics.reservations import FEW
from clinvit.eval.statistics.results import _rank_metrics
from clinvit.eval.statistics.subgroup_metrics import GroupedCases, RatedLabel
from clinvit.eval.statistics.subgroups import _macro_family, _shared
from clinvit.eval.statistics.unpaired import auroc_gaps
from scipy.special import expit
from scipy.stats import norm

SHIFT = 1.2  # between the mean scores of both classes, in standard deviations
AREA = norm.cdf(SHIFT / np.sqrt(2))  # the true AUROC
CUT = 0.6  # the threshold
RATES = ("sensitivity", "specificity", "ppv", "npv", "accuracy", "balanced_accuracy", "f1", "mcc")


class Cohort(NamedTuple):
    """A study: patients with each finding, and all others.

    Attributes:
        positives: Patients with each finding.
        patients: All of them.
        images: Of each patient.
        alike: The share of a score's variance that all images of a patient have in common.
        by_chance: Whether so many patients are ill on average; else exactly.
    """

    positives: tuple[int, ...]
    patients: int = 200
    images: int = 1
    alike: float = 0.0
    by_chance: bool = False

    @property
    def of(self) -> np.ndarray:
        """Return the (N,) patients of the images."""
        return np.repeat(np.arange(self.patients), self.images)

    def noise(self, generator: np.random.Generator, columns: int) -> np.ndarray:
        """Draw (N, columns) standard normal values."""
        shared = generator.normal(size=(self.patients, columns))[self.of]
        own = generator.normal(size=(len(self.of), columns))
        return np.sqrt(self.alike) * shared + np.sqrt(1 - self.alike) * own

    def truth(self, generator: np.random.Generator) -> np.ndarray:
        """Draw (N, L) truths: so many patients have each finding, in all of their images."""
        if self.by_chance:
            shares = np.array(self.positives) / self.patients
            return (generator.random((self.patients, len(shares))) < shares)[self.of].astype(np.float64)
        ill = [generator.choice(self.patients, size, replace=False) for size in self.positives]
        return np.column_stack([np.isin(self.of, own) for own in ill]).astype(np.float64)


class Tally:
    """What was found in the runs, by statistic: whether an interval was given, and whether it held the truth."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._held: dict[str, list[float]] = {}

    def interval(self, name: str, found: Estimate, true: float) -> None:
        """Note an interval; one that is missing must say why."""
        given = not np.isnan(found.low)
        assert given or found.reason, f"{name}: neither an interval nor a reason"
        self._held.setdefault(name, []).append(float(found.low <= true <= found.high) if given else np.nan)

    def test(self, name: str, p: float) -> None:
        """Note a test of a true null hypothesis; what is held is that it is not rejected."""
        self._held.setdefault(name, []).append(np.nan if np.isnan(p) else float(p >= 0.05))

    def rows(self) -> Iterator[tuple[str, int, int, float]]:
        """Yield statistic, runs, runs with an interval or p, and the share of these that held."""
        for name, held in self._held.items():
            given = np.array(held)[~np.isnan(held)]
            yield name, len(held), len(given), float(given.mean()) if len(given) else float("nan")


def one_finding(cohort: Cohort, runs: int, resamples: int = 600) -> Tally:
    """Simulate the metrics of one finding, at a fixed threshold, and two equally good models on the same cases."""
    tally, generator = Tally(), np.random.default_rng(1)
    prevalence, true = cohort.positives[0] / cohort.patients, _true_rates(cohort)
    precision = _true_average_precision(prevalence)
    points = [OperatingPoint(CUT, "given")]
    for run in range(runs):
        truth = cohort.truth(generator)
        common = SHIFT * truth + np.sqrt(0.5) * cohort.noise(generator, 1)
        first, second = (common + np.sqrt(0.5) * cohort.noise(generator, 1) for _ in range(2))
        bootstrap = PatientBootstrap(cohort.of.astype(str), resamples, run)
        ranked = _rank_metrics(truth, first, bootstrap)
        tally.interval("AUROC", ranked["auroc"][0][0], AREA)
        tally.interval("average precision", ranked["average_precision"][0][0], precision)
        found = transfer(truth, first, points, bootstrap)[0]
        for name in RATES:
            tally.interval(name, found[name], true[name])
        _, own, p = _differences(truth, first, second, bootstrap, bootstrap.smaller_class(truth) >= FEW)
        for name, words in (("auroc", "AUROC"), ("average_precision", "average precision")):
            tally.interval(f"difference of {words}", own[name][0], 0)
            tally.test(f"bootstrap test of {words}", p[name])
        tally.test("DeLong's test", paired_tests(truth, first, second, bootstrap)[0].p)
        cut = np.array([CUT])
        decided = compare_decisions(truth, (first, second), (cut, cut), bootstrap)
        tally.interval("difference of sensitivity", decided.sensitivity[0], 0)
        tally.interval("difference of specificity", decided.specificity[0], 0)
        tally.test("McNemar's test", float(decided.p[0]))
    return tally


def macro_means(cohort: Cohort, runs: int, resamples: int = 600) -> Tally:
    """Simulate the macro AUROC, and its difference between two equally good models."""
    tally, generator = Tally(), np.random.default_rng(2)
    for run in range(runs):
        truth, labels = cohort.truth(generator), len(cohort.positives)
        common = SHIFT * truth + np.sqrt(0.5) * cohort.noise(generator, labels)
        first, second = (common + np.sqrt(0.5) * cohort.noise(generator, labels) for _ in range(2))
        bootstrap = PatientBootstrap(cohort.of.astype(str), resamples, run)
        few = bootstrap.smaller_class(truth)
        drawn = bootstrap.drawn(lambda weights, y=truth, p=first: {"auroc": weights.ranks(y, p)["auroc"]})["auroc"]
        tally.interval("macro AUROC", believed_macro(auroc(truth, first), drawn, few, few >= FEW, "undefined"), AREA)
        macro, _, p = _differences(truth, first, second, bootstrap, few >= FEW)
        tally.interval("difference of macro AUROC", macro["auroc"], 0)
        tally.test("verdict on macro AUROC", _verdict_p(macro["auroc"], p["auroc"]))
    return tally


def calibrations(cohort: Cohort, runs: int) -> Tally:
    """Simulate scores that are right, of about so many positive patients: in the large 0, slope 1, curve the line."""
    tally, generator, asked = Tally(), np.random.default_rng(3), cohort.positives[0] / cohort.patients
    mean = _mean_log_odds(asked)
    for _ in range(runs):
        odds = (mean + generator.normal(size=cohort.patients))[cohort.of]
        score = expit(odds)
        truth = (norm.cdf(cohort.noise(generator, 1)[:, 0]) < score).astype(np.float64)
        bootstrap = PatientBootstrap(cohort.of.astype(str), 10)
        fit = calibration_fit(truth, score, bootstrap)
        tally.interval("calibration in the large", fit.in_the_large, 0)
        tally.interval("calibration slope", fit.slope, 1)
        curve = calibration_curve(truth, score, bootstrap)
        for place in (0.1, 0.5, 0.9):
            at = int(place * (len(curve.score) - 1)) if len(curve.score) else None
            point = Estimate(np.nan, reason=curve.reason) if at is None else Estimate(
                curve.observed[at], curve.low[at], curve.high[at], curve.reason)  # fmt: skip
            tally.interval(f"calibration curve, {place:.0%} along it", point, 0 if at is None else curve.score[at])
    return tally


def subgroup_macros(cohort: Cohort, runs: int) -> Tally:
    """Simulate sex, age and view that mean nothing: is any macro mean of a group called different, of all groups?"""
    tally, generator, labels = Tally(), np.random.default_rng(4), len(cohort.positives)
    for _ in range(runs):
        truth = cohort.truth(generator)
        scores = SHIFT * truth + cohort.noise(generator, labels)
        cases, columns = _grouped(cohort, truth, scores, generator)
        rated = [_gaps_of(cases, label) for label in range(labels)]
        family = _macro_family(cases, rated, _shared(rated, columns))
        for contrast in family[1:]:
            tally.interval("difference of a group's macro AUROC", contrast.difference, 0)
        tally.test("any group by Holm", _smallest([own.adjusted for own in family]))
    return tally


def several_models(cohort: Cohort, runs: int, models: int = 6, resamples: int = 499) -> Tally:
    """Simulate several equally good models: is the first or any other called better?"""
    tally, generator, labels = Tally(), np.random.default_rng(5), len(cohort.positives)
    for run in range(runs):
        truth = cohort.truth(generator)
        common = SHIFT * truth + np.sqrt(0.5) * cohort.noise(generator, labels)
        scores = [common + np.sqrt(0.5) * cohort.noise(generator, labels) for _ in range(models)]
        bootstrap = PatientBootstrap(cohort.of.astype(str), resamples, run)
        kept = bootstrap.smaller_class(truth) >= FEW
        pairs = [_differences(truth, scores[0], other, bootstrap, kept) for other in scores[1:]]
        p = holm(np.array([p["auroc"] for _, _, p in pairs]))
        tally.test(
            f"any verdict among {models} models",
            _smallest([_verdict_p(macro["auroc"], own) for (macro, _, _), own in zip(pairs, p)]),
        )
    return tally


def _verdict_p(gap: Estimate, p: float) -> float:
    """Return p where the interval excludes 0 as well, as a verdict needs both; 1 where it does not."""
    if np.isnan([gap.low, p]).any():
        return float("nan")
    return p if gap.low > 0 or gap.high < 0 else 1.0


def _smallest(p: Sequence[float]) -> float:
    return float(np.nanmin(p)) if not np.isnan(p).all() else float("nan")


def _true_rates(cohort: Cohort) -> dict[str, float]:
    share = cohort.positives[0] / cohort.patients
    sensitivity, specificity = norm.sf(CUT - SHIFT), norm.cdf(CUT)
    cells = share * sensitivity, (1 - share) * (1 - specificity), share * (1 - sensitivity), (1 - share) * specificity
    return {name: float(value) for name, value in rates(np.array(cells)).items()}


def _true_average_precision(share: float) -> float:
    score = norm.ppf((np.arange(200_000) + 0.5) / 200_000) + SHIFT
    found, alarms = share * norm.sf(score - SHIFT), (1 - share) * norm.sf(score)
    return float((found / (found + alarms)).mean())


def _mean_log_odds(share: float) -> float:
    deviates, means = norm.ppf((np.arange(2000) + 0.5) / 2000), np.linspace(-12, 2, 1401)
    expected = np.array([expit(mean + deviates).mean() for mean in means])
    return float(np.interp(share, expected, means))


def _grouped(
    cohort: Cohort, truth: np.ndarray, scores: np.ndarray, generator: np.random.Generator
) -> tuple[GroupedCases, list[str]]:
    """Draw groups: all cases, two sexes, four bands of age, and two views of images that may be of one patient."""
    sex, age = generator.integers(0, 2, cohort.patients)[cohort.of], generator.integers(0, 4, cohort.patients)
    view = generator.random(len(cohort.of)) < 0.3
    inside = [np.ones(len(view), dtype=bool), sex == 0, sex == 1, *(age[cohort.of] == i for i in range(4)), view, ~view]
    columns = ["", "sex", "sex", "age", "age", "age", "age", "view", "view"]
    mirrored = np.isin(np.arange(9), [2, 8])
    bootstrap = PatientBootstrap(cohort.of.astype(str), 10)
    return GroupedCases(truth, scores, np.column_stack(inside), mirrored, bootstrap), columns


def _gaps_of(cases: GroupedCases, label: int) -> RatedLabel:
    """Return what the contrasts of a label need."""
    truth, score = cases.truth[:, label], cases.scores[:, label]
    own = [
        cases.bootstrap.smaller_class(np.where(rows, truth[:, None], np.nan)) for rows in (cases.inside, ~cases.inside)
    ]
    gaps = auroc_gaps(truth, score, cases.inside, cases.bootstrap.index, cases.bootstrap.size)
    none = Drawn(np.empty((0, 0)), None, None)
    return RatedLabel([], np.empty(0), none, np.column_stack(own), gaps)


CLUSTERED = {"images": 3, "alike": 0.6}
COHORTS = [Cohort((n,), **own) for n in (1, 3, 10, 40) for own in ({}, CLUSTERED)]
COHORTS += [Cohort((40,), by_chance=True, **own) for own in ({}, CLUSTERED)]
MACROS = [
    Cohort(counts, patients=300, **own)
    for counts in ((1, 3), (40, 10, 3, 1), (10, 10), (12, 12, 12), (40, 40))
    for own in ({}, CLUSTERED)
]
GROUPS = [
    Cohort(counts, patients, **own)
    for counts, patients in (((100, 40, 20, 10), 300), ((60, 60, 60), 600), ((40, 40), 300), ((150, 80, 60, 50), 800))
    for own in ({}, CLUSTERED)
]
MODELS = [Cohort(counts, patients=300, **own) for counts in ((40,), (12, 12, 12)) for own in ({}, CLUSTERED)]
STUDIES: list[tuple[str, Callable[..., Tally], list[Cohort]]] = [
    ("One finding, and two equal models", one_finding, COHORTS),
    ("Means over findings, and two equal models", macro_means, MACROS),
    ("Scores that are right", calibrations, COHORTS),
    ("Groups that differ by chance", subgroup_macros, GROUPS),
    ("Six equal models", several_models, MODELS),
]


HEAD = """# Coverage

How often the printed 95 % intervals held the truth in simulated studies, and how often a test did not reject where
models and groups are equal (95 % is ideal, 94 % the least that is allowed). Made by

    uv run python tests/eval/simulations.py --runs 1000 --out docs/evidence/coverage.md

and checked in small by `tests/eval/test_coverage.py`, in large by the same under `-m thorough`.

Scores are normal in both classes (AUROC 0.80); with 3 images of a patient 60 % of a score's variance is the patient's.
"Given" is the share of runs with an interval or a p: the others say why there is none. Shares of 1,000 runs are
uncertain by 1.4 percentage points.

- Exact and score intervals hold for any truth and so hold more often than 95 % with a handful of patients.
- With a fixed number of ill patients, PPV, NPV, F1 and average precision hold more often, for their intervals allow for
  the chance of that number too; "about 40" shows them where it is by chance.
- Where few of the runs get an interval of the calibration, these are the runs with more ill patients than expected.

| study | statistic | positive patients | images of a patient | runs | given | held |
|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Run every study and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="a part of a study's title")
    asked = parser.parse_args()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(HEAD, encoding="utf-8")
    for title, study, cohorts in STUDIES:
        for cohort in cohorts if asked.only in title else []:
            with asked.out.open("a", encoding="utf-8") as file:
                file.writelines(_lines(title, cohort, study(cohort, asked.runs)))


def _lines(title: str, cohort: Cohort, tally: Tally) -> Iterator[str]:
    kind = f"{cohort.images} images alike by {cohort.alike:g}" if cohort.images > 1 else "1 image"
    counts = f"{'about ' * cohort.by_chance}{', '.join(map(str, cohort.positives))} of {cohort.patients}"
    for name, runs, given, held in tally.rows():
        share = f"{held:.1%}" if given >= 25 else "–"  # of fewer it says nothing
        yield f"| {title} | {name} | {counts} | {kind} | {runs:,} | {given / runs:.0%} | {share} |\n"


if __name__ == "__main__":
    main()
