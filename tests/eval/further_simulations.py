"""Simulated studies of what `simulations.py` leaves out: maps, tiles, numbers, grades, times, readers, classes.

Patients share part of each value; the truth is that of so many patients that it is known. The table is written by

    uv run python tests/eval/further_simulations.py --runs 1000 --out docs/evidence/coverage-further.md
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from clinvit.eval.localisation.boxes import _estimates, _shares_hit, paired_gains
from clinvit.eval.localisation.froc import RATES, SlideHits, froc
from clinvit.eval.localisation.tiles import TileSlide, dice_metrics, tile_auroc
from clinvit.eval.statistics.agreement import cohen_kappa, fleiss_kappa
from clinvit.eval.statistics.classes import Margins, _drawn, _groups, _overall, _patients, _per_class
from clinvit.eval.statistics.decision_curve import decision_curves
from clinvit.eval.statistics.delong import delong
from clinvit.eval.statistics.further_metrics import hand_till, label_metrics, micro_auroc, net_benefit_difference
from clinvit.eval.statistics.intervals import Estimate
from clinvit.eval.statistics.operating_points import OperatingPoint
from clinvit.eval.statistics.reader_study import between_modalities
from clinvit.eval.statistics.resampling import PatientBootstrap
from clinvit.eval.statistics.sites import _at_site
from clinvit.eval.targets.ordinal_metrics import ordinal_measured
from clinvit.eval.targets.regression_intervals import error_intervals
from clinvit.eval.targets.regression_metrics import regression_measured
from clinvit.eval.targets.risk_groups import groups
from clinvit.eval.targets.survival_metrics import survival_measured
from clinvit.mil.cross_validation import _metrics
from scipy.special import expit
from scipy.stats import beta, norm

if __package__:
    from .simulations import Tally
else:
    from simulations import Tally

MANY = 4000  # patients of which the truth is read
Found = Mapping[str, Estimate]


class Study(NamedTuple):
    """One kind of study.

    Attributes:
        title: For the table.
        measure: Of a random state, patients, resamples and seed, what is printed.
        sizes: Patients.
        known: Metrics whose truth needs no `MANY` patients, with it.
        samples: Of `MANY` patients each, for the truth of the others.
    """

    title: str
    measure: Callable[[np.random.Generator, int, int, int], Found]
    sizes: tuple[int, ...]
    known: tuple[tuple[str, float], ...] = ()
    samples: int = 12

    def tally(self, patients: int, runs: int, resamples: int) -> Tally:
        """Simulate so many studies of so many patients."""
        tally, true = Tally(), _truth(self)
        for run in range(runs):
            for name, found in self.measure(np.random.default_rng((patients, run)), patients, resamples, run).items():
                if not np.isnan(found.value):
                    tally.interval(name, found, true[name])
        return tally


@cache
def _truth(study: Study) -> dict[str, float]:
    """Return the value of each metric in the population, the mean of several large samples."""
    samples = [study.measure(np.random.default_rng((99, i)), MANY, 2, 0) for i in range(study.samples)]
    names = samples[0] if samples else ()
    return {name: float(np.mean([each[name].value for each in samples])) for name in names} | dict(study.known)


def _names(patients: int, each: int) -> list[str]:
    return np.repeat(np.arange(patients), each).astype(str).tolist()


def _clustered(rng: np.random.Generator, patients: int, each: int, columns: int = 1) -> np.ndarray:
    """Draw (N, columns) standard normal values, half of whose variance the cases of a patient share."""
    shared = np.repeat(rng.normal(size=(patients, columns)), each, axis=0)
    return (shared + rng.normal(size=(patients * each, columns))) / np.sqrt(2)


def overlaps(rng: np.random.Generator, patients: int, resamples: int, seed: int) -> Found:
    """Simulate overlaps of maps with findings, two of a patient, a fourth of them missed; and two maps of each."""
    each = _clustered(rng, patients, 2)
    first, second = (norm.cdf(0.8 * each + 0.6 * rng.normal(size=each.shape))[:, 0] for _ in range(2))
    iou = [np.where(u < 0.25, 0.0, beta.ppf(u, 2, 3)) for u in (first, second)]
    values = [np.column_stack([own > 0.3, norm.cdf(2 * own - 1), own]) for own in iou]
    among, bootstrap = np.ones((len(first), 1), bool), PatientBootstrap(_names(patients, 2), resamples, seed)
    found = _estimates(values[0], among, bootstrap)
    gains = paired_gains(values[0] - values[1], among, bootstrap)
    return (
        {"mean IoU": found["iou"][0], "energy in the box": found["energy"][0]}
        | {"findings hit": _shares_hit(values[0], among, bootstrap)["pointing_game"][0]}
        | {f"gain in {name}": own[0] for name, own in gains.items()}
    )


def detections(rng: np.random.Generator, patients: int, resamples: int, seed: int) -> Found:
    """Simulate FROC of two slides of each patient, with one to three lesions each."""
    level, slides = rng.normal(size=patients), []
    for i in range(2 * patients):
        found = expit(level[i // 2] + 1 + rng.normal(size=rng.integers(1, 4)))
        false = rng.beta(1.5, 4, rng.poisson(3 * np.exp(0.4 * level[i // 2])))
        slides.append(SlideHits(str(i), str(i // 2), false, np.where(found > 0.3, found, 0.0)))
    own = froc(slides, resamples, seed)
    return {"FROC score": own.score} | {f"sensitivity at {r:g}": e for r, e in zip(RATES, own.sensitivities)}


def tiles(rng: np.random.Generator, patients: int, resamples: int, seed: int) -> Found:
    """Simulate scores of 60 tiles of one slide of each patient."""
    slides = []
    for i in range(patients):
        level, share = rng.normal(), rng.beta(1.5, 4)
        truth = (rng.random(60) < share).astype(np.float64)
        slides.append(TileSlide(str(i), str(i), expit(0.7 * level + 2 * truth - 1 + rng.normal(size=60)), truth))
    own = tile_auroc(slides, resamples, seed) | dice_metrics(slides, OperatingPoint(0.5, "given"), resamples, seed)
    words = {"tile_auroc": "tile AUROC, pooled", "tile_auroc_mean": "tile AUROC, mean of slides"}
    words |= {"dice": "Dice, pooled", "dice_mean": "Dice, mean of slides"}
    return {words[name]: estimate for name, estimate in own.items()}


def numbers(rng: np.random.Generator, patients: int, resamples: int, seed: int) -> Found:
    """Simulate predicted numbers, three cases of a patient."""
    truth, gap = 10 * _clustered(rng, patients, 3)[:, 0], 2 * _clustered(rng, patients, 3)[:, 0] + 1
    return regression_measured(truth, truth + gap, PatientBootstrap(_names(patients, 3), resamples, seed)).estimates()


def grades(rng: np.random.Generator, patients: int, resamples: int, seed: int) -> Found:
    """Simulate predicted grades 0 to 3, two cases of a patient."""
    level, cut = _clustered(rng, patients, 2)[:, 0], np.array([-0.8, 0.1, 0.9])
    noisy = level + 0.7 * _clustered(rng, patients, 2)[:, 0]
    own, decided = (np.searchsorted(cut, each).astype(float) for each in (level, noisy))
    bootstrap = PatientBootstrap(_names(patients, 2), resamples, seed)
    return ordinal_measured(own, decided, expit(3 * (noisy[:, None] - cut)), bootstrap).estimates()


def times(rng: np.random.Generator, patients: int, resamples: int, seed: int) -> Found:
    """Simulate times until an event, a third censored, one case of each patient."""
    risk = rng.normal(size=patients)
    time, censored = rng.exponential(10, patients) * np.exp(-risk), rng.exponential(20, patients)
    truth = np.column_stack([np.minimum(time, censored), time <= censored]).astype(np.float64)
    seen, at = risk + 0.5 * rng.normal(size=patients), np.array([2.0, 5.0, 10.0])
    free = np.exp(-np.exp(seen)[:, None] * at / 10)
    bootstrap = PatientBootstrap(_names(patients, 1), resamples, seed)
    found = survival_measured(truth, seen, free, at, bootstrap).estimates()
    parts = {f"event-free, {each.name}": each.observed for each in groups(truth, seen, free, at, bootstrap).risk}
    return found | parts


def ratings(rng: np.random.Generator, patients: int, resamples: int, seed: int) -> Found:
    """Simulate grades that three readers give to two cases of each patient."""
    level = _clustered(rng, patients, 2)
    own = np.searchsorted([-0.5, 0.5], (level + 0.7 * rng.normal(size=(len(level), 3))).ravel()).reshape(-1, 3)
    bootstrap = PatientBootstrap(_names(patients, 2), resamples, seed)
    return {
        "kappa of two": cohen_kappa(own[:, 0], own[:, 1], bootstrap),
        "weighted kappa of two": cohen_kappa(own[:, 0], own[:, 1], bootstrap, "quadratic"),
        "Fleiss' kappa of three": fleiss_kappa(own, bootstrap),
    }


def modalities(rng: np.random.Generator, patients: int, resamples: int, seed: int) -> Found:
    """Simulate four readers with and without a model that changes nothing; a third of the patients are ill."""
    truth = (np.arange(patients) % 3 == 0).astype(np.float64)
    skill, case = 1.2 + 0.3 * rng.normal(size=(1, 4, 1)), rng.normal(size=(1, 1, patients))
    reader, own = rng.normal(size=(1, 4, patients)), rng.normal(size=(2, 4, patients))
    score = (skill + 0.15 * rng.normal(size=(2, 4, 1))) * truth + case + 0.5 * reader + 0.6 * own
    found = delong(truth, score.reshape(8, patients).T, list(range(patients)))
    return {"difference of modalities": between_modalities(found.auroc.reshape(2, 4), found.covariance).difference}


def classes(rng: np.random.Generator, patients: int, resamples: int, seed: int) -> Found:
    """Simulate three exclusive classes, a fifth of the patients in the rarest, two cases of each patient."""
    truth = np.repeat(rng.choice(3, patients, p=[0.5, 0.3, 0.2]), 2)
    scores = 1.4 * np.eye(3)[truth] + _clustered(rng, patients, 2, 3)
    decided, bootstrap = scores.argmax(axis=1), PatientBootstrap(_names(patients, 2), resamples, seed)
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (truth, decided), 1)
    margins = Margins(confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0))
    own = _groups(truth, decided, truth == decided, 3)
    drawn = bootstrap.drawn(lambda weights: _drawn(own, 3, weights))
    per_class = _per_class(margins, drawn, truth, decided, bootstrap)
    overall = _overall(margins, drawn, bootstrap, per_class, _patients(bootstrap, truth, 3))
    rarest = {f"{name} of the rarest class": found[2] for name, found in per_class.items()}
    return overall | rarest | {"Hand's and Till's M": hand_till(truth, scores, bootstrap)}


def labels(rng: np.random.Generator, patients: int, resamples: int, seed: int) -> Found:
    """Simulate two findings of a fifth of the patients with right probabilities, and a second model; two cases each."""
    ill = rng.random((patients, 2)) < 0.2
    truth = np.repeat(ill, 2, axis=0).astype(np.float64)
    first, second = (1.2 * truth + _clustered(rng, patients, 2, 2) for _ in range(2))
    # The log odds of a normal value of either class, that of one case alone.
    one, other = (expit(1.2 * (x - 0.6) + np.log(0.2 / 0.8)) for x in (first, second))
    bootstrap = PatientBootstrap(_names(patients, 2), resamples, seed)
    curve = decision_curves(truth[:, :1], one[:, :1], bootstrap)[0]
    found = label_metrics(truth[:, :1], one[:, :1], bootstrap)[0]
    gap = net_benefit_difference(truth[:, :1], one[:, :1], other[:, :1], 0.2, bootstrap)[0]
    return (
        {"micro AUROC": micro_auroc(truth, one, bootstrap), "net benefit at 0.2": curve.at(0.2)}
        | {"gain in net benefit at 0.2": curve.gain[19], "difference of net benefit": gap}
        | found
    )


def site(rng: np.random.Generator, patients: int, resamples: int, seed: int) -> Found:
    """Simulate one site of a report, a third of whose patients are ill, two cases each."""
    truth = np.repeat(rng.random(patients) < 1 / 3, 2).astype(np.float64)[:, None]
    odds = 1.2 * (1.2 * truth + _clustered(rng, patients, 2) - 0.6) - np.log(2)
    part = truth, expit(odds), _names(patients, 2)
    metrics = ("auroc", "sensitivity", "specificity", "in_the_large")
    return {name: _at_site("one", part, 0, name, 0.3).estimate for name in metrics}


def bags(rng: np.random.Generator, patients: int, resamples: int, seed: int) -> Found:
    """Simulate the scores of bags in five repeats of a cross-validation, half of them positive; one bag a patient."""
    truth = (rng.random((patients, 1)) < 0.5).astype(np.float64)
    own = 1.5 * truth - 0.75 + rng.normal(size=truth.shape)
    scores = expit(np.stack([own + 0.4 * rng.normal(size=truth.shape) for _ in range(5)]))
    accuracy, area = _metrics(((scores >= 0.5) == (truth == 1))[..., 0], scores, truth, resamples)
    return {
        name: Estimate(each.mean, each.low or np.nan, each.high or np.nan, "few bags")
        for name, each in (("accuracy", accuracy), ("AUROC", area))
    }


OF_NUMBERS = (
    ("bias", 1.0), ("rmse", 5**0.5), ("limit_low", 1 - 2 * norm.ppf(0.975)), ("limit_high", 1 + 2 * norm.ppf(0.975)),
    ("concordance", 200 / 205), ("r2", 1 - 5 / 100),
)  # fmt: skip
OF_BAGS = ("accuracy", float(norm.cdf(0.75 / 1.16**0.5))), ("AUROC", float(norm.cdf(1.5 / 2.32**0.5)))
STUDIES = (
    Study("Maps against findings", overlaps, (10, 20, 60)),
    Study("Detections, free response", detections, (10, 20, 30, 100), samples=2),
    Study("Tiles of slides", tiles, (10, 30, 100), samples=2),
    Study("Numbers", numbers, (10, 20, 30, 100), OF_NUMBERS),
    Study("Grades", grades, (15, 30, 100)),
    Study("Times until an event", times, (40, 100), samples=2),
    Study("Readers' agreement", ratings, (10, 30, 100)),
    Study("Readers with and without a model", modalities, (45, 120), (("difference of modalities", 0.0),)),
    Study("Exclusive classes", classes, (50, 100, 300)),
    Study("Further metrics of findings", labels, (50, 100, 300), (("difference of net benefit", 0.0),)),
    Study("One site of several", site, (30, 60, 150)),
    Study("Cross-validation of bags", bags, (30, 92), OF_BAGS, samples=0),
)
HEAD = """# Coverage of further intervals

How often the printed 95 % intervals held the truth in simulated studies of what the [other page](coverage.md) leaves
out. Made by

    uv run python tests/eval/further_simulations.py --runs RUNS --out docs/evidence/coverage-further.md

and checked in small by `tests/eval/test_further_coverage.py`, in large by the same under `-m thorough`. Each row is of
RUNS studies; shares of 1,000 are uncertain by 1.4 percentage points. "Given" is the share with an interval: the others
say why there is none.

Errors of numbers, 4,000 studies each (`uv run python tests/eval/further_simulations.py --errors 4000`, 1 minute): RMSE
held in 95.0 to 97.4 % with normal errors (20 to 1,000 patients, one or three cases each; 95.8 and 95.7 % at 100), in
92.9 to 95.0 % with errors of heavy tails (Student's t with 5 degrees of freedom); MAE and bias in 94.2 to 95.5 % with
either; limits of agreement in 94.9 to 95.7 % and 92.0 to 94.4 %.
"""
TABLE = """
## STUDY

| statistic | patients | given | held |
|---|---|---|---|
"""


def lines(patients: int, tally: Tally) -> Iterator[str]:
    """Yield the rows of a study's table."""
    for name, runs, given, held in tally.rows():
        share = "–" if np.isnan(held) else f"{held:.1%}"
        yield f"| {name.replace('_', ' ')} | {patients} | {given / runs:.0%} | {share} |"


def errors_held(runs: int) -> Iterator[str]:
    """Yield how often intervals of errors hold, with normal errors and with heavy tails (closed form: no resamples)."""
    for tails, draw, std in (("normal", np.random.Generator.normal, 1.0), ("heavy", _student, (5 / 3) ** 0.5)):

        def errors(rng: np.random.Generator, patients: int, each: int, draw=draw, std=std) -> np.ndarray:
            own, case = draw(rng, size=(patients, 1)), draw(rng, size=(patients, each))
            return ((own + case) / std * 2**0.5 + 1).ravel()

        many = errors(np.random.default_rng(9), 2_000_000, 1)
        true = {"mae": np.abs(many).mean(), "rmse": 5**0.5, "bias": 1.0, "limit_high": 1 + 2 * norm.ppf(0.975)}
        for patients, each in ((20, 1), (60, 3), (100, 1), (100, 3), (300, 3), (1000, 1)):
            rng, index, held = np.random.default_rng(1), np.repeat(np.arange(patients), each), dict.fromkeys(true, 0)
            for _ in range(runs):
                found = error_intervals(errors(rng, patients, each), index, norm.ppf(0.975))
                for name, value in true.items():
                    held[name] += found[name].low <= value <= found[name].high
            shares = ", ".join(f"{name} {count / runs:.1%}" for name, count in held.items())
            yield f"{tails}, {patients} patients of {each}: {shares}"


def _student(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return rng.standard_t(5, size)


def main() -> None:
    """Simulate all and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--only", default="", help="part of a study's title")
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--errors", type=int, default=0, metavar="RUNS", help="errors of numbers alone, in so many runs"
    )
    asked = parser.parse_args()
    if asked.errors:
        for line in errors_held(asked.errors):
            print(line, flush=True)
        return
    text = HEAD.replace("--runs RUNS", f"--runs {asked.runs}").replace("RUNS", f"{asked.runs:,}")
    for study in (study for study in STUDIES if asked.only in study.title):
        rows = [line for size in study.sizes for line in lines(size, study.tally(size, asked.runs, asked.resamples))]
        part = TABLE.replace("STUDY", study.title) + "\n".join(rows) + "\n"
        print(part, flush=True)
        text += part
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
