"""Thresholds: chosen on validation cases only, then carried to the cases that are evaluated.

A case is predicted positive when its score is at or above the threshold. A chosen threshold lies halfway between
the lowest score predicted positive and the next lower one, so that rounding a score in a file changes no prediction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_curve

from .intervals import Estimate, estimates, proportions_of, share_variances
from .metrics import RATE_REASONS, Confusion, confusion_cells, predicted_labels, predictive_values, rates, reasons
from .resampling import Drawn, PatientBootstrap, Reweighted
from .rules import Rule, parse_rule
from .small_samples import mean_of_two

FEWEST = 5  # patients in each of the four counts, below which a metric of all four gets no interval
ROUGH = f"true or false, positive or negative: one of the four has cases of fewer than {FEWEST} patients"
AT_PREVALENCE = ("ppv_at_prevalence", "npv_at_prevalence")
GIVEN = "given"  # the rule of a threshold that is stored with a model


@dataclass(frozen=True)
class OperatingPoint:
    """One label's threshold.

    Attributes:
        threshold: NaN where none could be chosen.
        rule: How it was chosen (`youden`, `sensitivity=0.90`, `cost=10:1`), the cut-off itself (`0.31`), or `given`.
        chosen_on: Split it was chosen on; empty for a fixed or given one.
        reason: Why there is none.
    """

    threshold: float
    rule: str
    chosen_on: str = ""
    reason: str = ""

    @property
    def source(self) -> str:
        """Say where it comes from, in words."""
        if self.rule == GIVEN:
            return "stored with the model"
        if self.chosen_on:
            return f"chosen on {self.chosen_on} of the same table"
        return "from the protocol" if not self.reason else ""


def choose(truth: np.ndarray, scores: np.ndarray, rule: str = "youden", chosen_on: str = "val") -> list[OperatingPoint]:
    """Choose one threshold per label from validation cases.

    Args:
        truth: (N, L) of the validation cases.
        scores: (N, L) of the same.
        rule: `youden` (largest sensitivity + specificity, Youden 1950), `sensitivity=S` (the highest
            threshold that finds at least the share S of the positive cases), `specificity=S` (the lowest
            threshold that leaves at least the share S of the negative cases alone), `cost=M:F` (the least
            expected cost, where a missed case costs M and a false alarm F; `@P` behind it says at which prevalence,
            which is otherwise that of the validation cases), or a cut-off such as `0.31`, which a protocol has locked.
        chosen_on: Name of the split, for the record.

    Raises:
        UserError: An unknown rule.
    """
    parsed = parse_rule(rule)
    if parsed.kind == "fixed":
        return [OperatingPoint(parsed.level, rule)] * truth.shape[1]
    missing = [f"{reason} in {chosen_on}" if reason else "" for reason in reasons(truth)]
    return [
        OperatingPoint(float("nan"), rule, chosen_on, missing[i])
        if missing[i]
        else _choose_one(truth[:, i], scores[:, i], parsed, rule, chosen_on)
        for i in range(truth.shape[1])
    ]


def transfer(
    truth: np.ndarray,
    scores: np.ndarray,
    points: Sequence[OperatingPoint],
    bootstrap: PatientBootstrap,
    prevalences: np.ndarray | None = None,
) -> list[dict[str, Estimate]]:
    """Compute what the thresholds do on other cases: per label the rates of `metrics.rates` with intervals.

    Args:
        truth: (N, L) of the evaluated cases.
        scores: (N, L) of the same.
        points: L operating points.
        bootstrap: The N cases' patients.
        prevalences: (L,) at which the predictive values are wanted too, as `ppv_at_prevalence` and
            `npv_at_prevalence`; NaN for a label without.
    """
    prevalences = np.full(len(points), np.nan) if prevalences is None else prevalences
    cells = confusion_cells(truth, predicted_labels(scores, np.array([point.threshold for point in points])))
    values = _all_rates(Confusion(*(cell.sum(axis=0) for cell in cells)), prevalences)
    drawn = bootstrap.drawn(lambda weights: _all_rates(_tables(cells, weights), prevalences))
    found: list[dict[str, Estimate]] = [{} for _ in points]
    for name in values:
        why = [point.reason or RATE_REASONS[name] for point in points]
        for label, estimate in enumerate(_estimates(name, values[name], cells, drawn[name], bootstrap, why)):
            found[label][name] = estimate
    for own in found:
        own["balanced_accuracy"] = _balanced(own)
    for own, prevalence in zip(found, prevalences):
        for name in AT_PREVALENCE:
            estimate = own.pop(name)
            if not np.isnan(prevalence):
                own[name] = _widened(estimate, name, own, prevalence)
    return found


def _choose_one(truth: np.ndarray, score: np.ndarray, rule: Rule, name: str, chosen_on: str) -> OperatingPoint:
    known = ~np.isnan(truth)
    false, true, cuts = roc_curve(truth[known], score[known], drop_intermediate=False)
    if len(cuts) == 2:
        return OperatingPoint(float("nan"), name, chosen_on, f"all scores in {chosen_on} are equal")
    if rule.kind == "cost":
        place = _cheapest(false, true, rule, float(truth[known].mean()))
        if place == 0:
            why = f"at these costs it is best in {chosen_on} to predict no case positive"
            return OperatingPoint(float("nan"), name, chosen_on, why)
    elif rule.kind == "youden":
        # Rounded, so that equal sums tie in spite of floating point; of equal ones the highest threshold is
        # taken. The first place predicts no case positive.
        place = 1 + int(np.argmax(np.round(true - false, 12)[1:]))
    else:
        # Shares are compared with a whisker of slack: 9 of 10 must pass for 0.9.
        share = true if rule.kind == "sensitivity" else 1 - false
        reached = 1 + np.flatnonzero(share[1:] >= rule.level - 1e-12)
        if len(reached) == 0:
            return OperatingPoint(float("nan"), name, chosen_on, f"no threshold reaches {name} in {chosen_on}")
        place = int(reached[0] if rule.kind == "sensitivity" else reached[-1])
    below = cuts[place + 1] if place + 1 < len(cuts) else 0.0
    return OperatingPoint(float((cuts[place] + below) / 2), name, chosen_on)


def _cheapest(false: np.ndarray, true: np.ndarray, rule: Rule, observed: float) -> int:
    """Return the position on the ROC curve with the least expected cost per case (Metz 1978, Semin. Nucl. Med. 8:283).

    Of equal ones it is the highest threshold that predicts a case positive.
    """
    prevalence = observed if np.isnan(rule.prevalence) else rule.prevalence
    cost = prevalence * (1 - true) * rule.missed + (1 - prevalence) * false * rule.alarm
    cost = np.round(cost / (rule.missed + rule.alarm), 12)
    return 1 + int(np.argmin(cost[1:])) if cost[1:].min() <= cost[0] else 0


def _tables(cells: Confusion, weights: Reweighted) -> Confusion:
    """Return the four counts in each resample, (R, L) each."""
    return Confusion(*np.split(weights.sums(np.concatenate(cells, axis=1)), 4, axis=1))


def _all_rates(counts: Confusion, prevalences: np.ndarray) -> dict[str, np.ndarray]:
    found = rates(counts)
    at_prevalence = predictive_values(found["sensitivity"], found["specificity"], prevalences)
    return found | dict(zip(AT_PREVALENCE, at_prevalence))


def _estimates(
    name: str, values: np.ndarray, cells: Confusion, drawn: Drawn, bootstrap: PatientBootstrap, why: Sequence[str]
) -> list[Estimate]:
    """Return L estimates of a rate: a proportion as `intervals.proportions` has it, another from its draws."""
    tp, fp, fn, tn = cells
    shares = {
        "sensitivity": (tp, tp | fn),
        "specificity": (tn, tn | fp),
        "ppv": (tp, tp | fp),
        "npv": (tn, tn | fn),
        "accuracy": (tp | tn, tp | fp | fn | tn),
    }
    if name not in shares:
        return _believed(values, drawn, why, cells, bootstrap)
    hits, counted = shares[name]
    patients = [bootstrap.having(column) for column in counted.T]
    variances = share_variances(hits, counted, bootstrap.index)
    return proportions_of(hits.sum(axis=0), counted.sum(axis=0), patients, variances, why)


def _believed(
    values: np.ndarray, drawn: Drawn, why: Sequence[str], cells: Confusion, bootstrap: PatientBootstrap
) -> list[Estimate]:
    """Return L estimates of a metric of all four counts; none gets an interval where a count has too few patients.

    Resampling shows no variation of a rate of 0 or 1, so a metric made of it would seem too certain.
    """
    tp, fp, fn, tn = cells
    smaller = [min(bootstrap.having(p), bootstrap.having(n)) for p, n in zip((tp | fn).T, (tn | fp).T)]
    found = estimates(values, drawn, why, smaller)
    right = [np.array([bootstrap.having(column) for column in cell.T]) for cell in cells]
    fewest = np.minimum.reduce(right)
    return [
        Estimate(e.value, reason=f"no interval: {ROUGH}") if e.value == e.value and not e.reason and n < FEWEST else e
        for e, n in zip(found, fewest)
    ]


def _balanced(found: dict[str, Estimate]) -> Estimate:
    """Return the balanced accuracy with an interval where resampling gives none: from those of both rates."""
    own, one, two = (found[name] for name in ("balanced_accuracy", "sensitivity", "specificity"))
    if np.isnan(own.value) or not own.reason or np.isnan([one.low, two.low]).any():
        return own
    ends = mean_of_two((one.value, one.low, one.high), (two.value, two.low, two.high))
    return Estimate(own.value, *ends, method="intervals of both rates", undefined=own.undefined)


def _widened(estimate: Estimate, name: str, found: dict[str, Estimate], prevalence: float) -> Estimate:
    """Widen the interval of a predictive value at a prevalence where all cases of a class get the same predicted label.

    Resampling shows no variation of sensitivity or specificity there, so the ends of the intervals of both are put
    together (a predictive value rises with both).
    """
    both = [found["sensitivity"], found["specificity"]]
    if np.isnan(estimate.value) or not {rate.value for rate in both} & {0.0, 1.0}:
        return estimate
    sensitivity, specificity = (np.array([rate.low, rate.high]) for rate in both)
    ends = predictive_values(sensitivity, specificity, np.full(2, prevalence))
    low, high = ends[AT_PREVALENCE.index(name)]
    return Estimate(estimate.value, float(low), float(high), method="ends of both rates' intervals")
