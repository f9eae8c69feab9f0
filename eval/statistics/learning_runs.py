"""Runs on fewer and more labelled cases, scored on the same cases: points, curves, and what an encoder adds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from .intervals import Estimate, percentile
from .learning_curve import METHOD, LearningCurve, Measured, fit_learning_curve
from .metrics import auroc
from .resampling import PatientBootstrap, rarest_finding
from .reservations import FEW, mean_size

MACRO = "macro"


@dataclass(frozen=True)
class Run:
    """One training on a share of the labels.

    Attributes:
        model: Name of what was trained: with or without an encoder.
        share: Of the patients whose labels were used.
        seed: Of who they are, and of the training.
        cases: Labelled cases that it was trained on.
        patients: Of these.
        absent: Findings without a positive, or without a negative case among them: it has no score for these.
        scores: (N, L) for the cases that all runs are scored on.
    """

    model: str
    share: Fraction
    seed: int
    cases: int
    patients: int
    absent: tuple[str, ...]
    scores: np.ndarray


@dataclass(frozen=True)
class Target:
    """What is measured: a finding, or the mean over several.

    Attributes:
        name: The finding, or `MACRO`.
        findings: Whose AUROCs are averaged.
        curves: By model; None where fewer than two sizes have a score.
        scores: (runs,) of every run; NaN where it has none.
        gains: By size, the first model less the second, paired; empty with one model.
    """

    name: str
    findings: tuple[str, ...]
    curves: dict[str, LearningCurve | None]
    scores: np.ndarray
    gains: dict[float, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class LearningRuns:
    """Everything that was measured.

    Attributes:
        runs: The runs, in order.
        models: Their models, the one to be shown first.
        targets: The macro mean first, if there is one; then the findings.
        rare: Findings with too few patients in their smaller class for an interval, and how many; not in the mean.
        absent: Findings for which some runs have no score, and which; not in the mean.
        cases, patients: Scored by all runs.
    """

    runs: Sequence[Run]
    models: tuple[str, ...]
    targets: Sequence[Target]
    rare: dict[str, int]
    absent: dict[str, str]
    cases: int
    patients: int


def learning_runs(
    runs: Sequence[Run], labels: Sequence[str], truth: np.ndarray, patients: Sequence[str], resamples: int, seed: int
) -> LearningRuns:
    """Measure runs by AUROC and fit a curve per model, for the macro mean and for each finding.

    The macro mean is over the same findings in all runs: those that every run was trained on, with enough patients.

    Args:
        runs: The runs.
        labels: L findings.
        truth: (N, L) of the cases that all runs are scored on: 0, 1, NaN.
        patients: (N,) names.
        resamples: Of patients.
        seed: Of the resamples.
    """
    models = tuple(dict.fromkeys(run.model for run in runs))
    bootstrap = PatientBootstrap(patients, resamples, seed, rarest_finding(truth, patients))
    smaller = bootstrap.smaller_class(truth)
    values = np.array([auroc(truth, run.scores) for run in runs])
    drawn = np.array([bootstrap.ranks(truth, run.scores)["auroc"] for run in runs])
    for number, run in enumerate(runs):
        values[number, [label in run.absent for label in labels]] = np.nan
    absent = _absent(runs, labels, values)
    rare = {label: int(count) for label, count in zip(labels, smaller) if count < FEW}
    kept = [k for k, label in enumerate(labels) if label not in absent and label not in rare]
    targets = []
    if kept:
        few = mean_size(np.nanvar(drawn[-1][:, kept], axis=0), smaller[kept])
        targets.append(_target(MACRO, kept, runs, models, labels, values, drawn, few, seed))
    # Without a mean the page begins with the finding of which most is known.
    for k in range(len(labels)) if kept else np.argsort(-smaller, kind="stable"):
        if [k] != kept:
            own = _target(labels[k], [k], runs, models, labels, values, drawn, float(smaller[k]), seed)
            targets.append(own)
    return LearningRuns(runs, models, targets, rare, absent, len(truth), bootstrap.size)


def _absent(runs: Sequence[Run], labels: Sequence[str], values: np.ndarray) -> dict[str, str]:
    """Return which findings some runs have no score for, and in which subsets."""
    found = {}
    for k, label in enumerate(labels):
        where = sorted({(run.share, run.seed) for run, value in zip(runs, values[:, k]) if np.isnan(value)})
        if where:
            named = ", ".join(f"{share} (seed {seed})" for share, seed in where[:4])
            found[label] = named + (f" and {len(where) - 4} more" if len(where) > 4 else "")
    return found


def _target(
    name: str, kept: list[int], runs: Sequence[Run], models: Sequence[str], labels: Sequence[str],
    values: np.ndarray, drawn: np.ndarray, few: float, seed: int,
) -> Target:  # fmt: skip
    scores, draws = values[:, kept].mean(axis=1), drawn[:, :, kept].mean(axis=2)
    curves = {model: _curve(model, runs, scores, draws, few, seed) for model in models}
    gains = _gains(*curves.values()) if len(models) == 2 else {}
    return Target(name, tuple(labels[k] for k in kept), curves, scores, gains)


def _curve(
    model: str, runs: Sequence[Run], scores: np.ndarray, draws: np.ndarray, few: float, seed: int
) -> LearningCurve | None:
    """Fit the curve of a model to the runs that have a score; the size of a share is the mean over its runs."""
    own = [n for n, run in enumerate(runs) if run.model == model]
    sizes, values, drawn = [], [], []
    for share in sorted({runs[n].share for n in own}):
        of_share = [n for n in own if runs[n].share == share and not np.isnan(scores[n])]
        if of_share:
            sizes.append(np.mean([runs[n].cases for n in own if runs[n].share == share]))
            values.append(scores[of_share])
            drawn.append(draws[of_share].T)
    return fit_learning_curve(Measured(np.array(sizes), values, drawn, few), seed)


def _gains(first: LearningCurve | None, second: LearningCurve | None) -> dict[float, Estimate]:
    """Return the difference of the means of the runs at each size that both have, over the same resamples."""
    if first is None or second is None:
        return {}
    found = {}
    for k, size in enumerate(first.measured.sizes):
        other = np.flatnonzero(second.measured.sizes == size)
        if len(other):
            value = first.measured.means()[k] - second.measured.means()[other[0]]
            draws = first.means[:, k] - second.means[:, other[0]]
            own = percentile(float(value), draws, few=first.measured.few)
            found[float(size)] = Estimate(own.value, own.low, own.high, own.reason, METHOD, own.undefined)
    return found
