"""Non-inferiority and equivalence of two models with a stated margin, from the interval of their difference.

The first model is not inferior if the lower end of the 95 % interval of first minus second lies above minus the margin
(a one-sided test at 2.5 %), and both are equivalent if the whole interval lies within the margin (two such tests;
Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657). A difference whose interval cannot be trusted gives no verdict.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from ...core.errors import UserError
from .compare import Comparison
from .exact import POWER
from .intervals import LEVEL, Estimate
from .questions import EQUIVALENCE, Margin

SHOWN, REFUTED, OPEN = "shown", "refuted", "not shown"


@dataclass(frozen=True)
class MarginTest:
    """A question on two models, and what their cases say.

    Attributes:
        question: What was asked, with the margin and the metric.
        label: The finding; empty for the mean over all, and for the accuracy.
        difference: First minus second.
        cases: Of the comparison.
        verdict: `shown`, `refuted` (the interval lies wholly beyond the margin) or `not shown`; empty without an
            interval that can be trusted.
        p: One-sided, of the larger of both tests for equivalence, by the normal distribution; NaN without a verdict.
        needed: Further cases like these that would show it four times in five, if the difference is the one found; 0
            where it is shown; None where no number would, or there is no verdict.
    """

    question: Margin
    label: str
    difference: Estimate
    cases: int
    verdict: str
    p: float
    needed: int | None


def margin_test(comparison: Comparison, question: Margin) -> MarginTest:
    """Answer a question on two models, compared at their thresholds.

    Raises:
        UserError: The models have no such difference.
    """
    difference, label = _difference(comparison, question.label, question.name)
    margin, both = question.margin, question.question == EQUIVALENCE
    # How far the difference lies within the margin: below it, and of an equivalence above it too.
    bounds = [difference.value + margin, *([margin - difference.value] if both else [])]
    if np.isnan(difference.low) or difference.reason:
        return MarginTest(question, label, difference, comparison.cases, "", float("nan"), None)
    error = (difference.high - difference.low) / (2 * norm.ppf((1 + LEVEL) / 2))
    above, below = difference.low > -margin, not both or difference.high < margin
    beyond = difference.high < -margin or (both and difference.low > margin)
    verdict = SHOWN if above and below else REFUTED if beyond else OPEN
    p = max(float(norm.sf(distance / error)) for distance in bounds) if error > 0 else 0.0
    needed = 0 if verdict == SHOWN else _needed(min(bounds), error, comparison.cases, both)
    return MarginTest(question, label, difference, comparison.cases, verdict, p, needed)


def _difference(comparison: Comparison, label: str, name: str) -> tuple[Estimate, str]:
    """Return the difference that is asked for, and the finding that it is of."""
    only = comparison.labels[0] if len(comparison.labels) == 1 else ""
    if name == "accuracy":
        if comparison.classes is None or label:
            raise UserError("an accuracy is compared of models with the same exclusive classes, over all of them.")
        return comparison.classes.accuracy, ""
    if not label and name in comparison.macro and not only:
        return comparison.macro[name], ""
    label = label or only
    if label not in comparison.labels:
        known = ", ".join(comparison.labels)
        said = f"no finding {label!r} that both models score" if label else f"{name} is of one finding"
        raise UserError(f"{said}: write FINDING:{name}, with one of {known}.")
    place = comparison.labels.index(label)
    if name == "auroc":
        exact, drawn = comparison.tests[place].difference, comparison.differences["auroc"][place]
        return replace(exact, reason=exact.reason or drawn.reason), label  # the reservations are the same
    if name in comparison.differences:
        return comparison.differences[name][place], label
    assert comparison.decisions is not None, "models are compared at their thresholds"
    return getattr(comparison.decisions, name)[place], label


def _needed(distance: float, error: float, cases: int, both: bool) -> int | None:
    """Return how many further cases shrink the standard error so far that the distance is seen four times in five."""
    if not distance > 0:
        return None
    # Of an equivalence both tests must succeed: half of the remaining risk for each.
    power = (1 + POWER) / 2 if both else POWER
    factor = ((norm.ppf((1 + LEVEL) / 2) + norm.ppf(power)) * error / distance) ** 2
    return max(1, int(np.ceil((factor - 1) * cases)))
