"""Does the measured metric agree with the printed one?"""

import math
from dataclasses import replace

from ...eval.statistics.intervals import Estimate
from .metrics import Measured
from .table import Metric, Printed, TestList

EQUAL = "equals the paper's value, as it is rounded"
INSIDE = "agrees: the paper's value is inside the interval"
ABOVE = "measured above the paper"
BELOW = "measured below the paper"
UNKNOWN = "paper's value not known to us"
NO_INTERVAL = "no interval to judge by"
UNDEFINED = "undefined"
NOT_RUN = "not run"
INVENTED = "not comparable: invented data"
ANOTHER_LIST = "not comparable: another test list"
ANOTHER_RECIPE = "not comparable: another recipe"
POINT = 0.01  # one point of a share: what papers argue about


def verdict(
    measured: Estimate | None, paper: Printed | None, metric: Metric, obstacle: str = "", cases: int = 0
) -> str:  # fmt: skip
    """Return one of the sentences above; one that agrees says how exact it is.

    A printed value means every value that is printed so. It agrees if any of these is inside the 95 % interval.

    Args:
        measured: None where the row was not run or the metric was not measured.
        paper: None, or a metric without value, where it is not known.
        metric: The column, which says how many decimals are printed, and whether the paper rounds.
        obstacle: Why the paper's value says nothing about what was measured (`obstacle`); empty where it does.
        cases: Test cases behind the metric.
    """
    if measured is None:
        return NOT_RUN
    if math.isnan(measured.value):
        return UNDEFINED
    if obstacle == INVENTED:
        return INVENTED
    if paper is None or paper.value is None:
        return UNKNOWN
    if obstacle:
        return obstacle
    if metric.counted:
        measured = replace(measured, low=measured.value, high=measured.value)
    if math.isnan(measured.low):
        return NO_INTERVAL
    unit = 10**-metric.digits
    least, most = (0.0, unit) if metric.cut_off else (-unit / 2, unit / 2)
    if paper.value + most < measured.low:
        return ABOVE
    if paper.value + least > measured.high:
        return BELOW
    if metric.counted:
        return EQUAL
    return f"{INSIDE}{_exactness(measured, metric, cases)}"


def obstacle(measured: Measured, test: TestList | None, changed: bool, phantoms: bool) -> str:
    """Return why the paper's values say nothing about a row; empty where they do.

    Args:
        measured: The row.
        test: The paper's test cases; None where they are not known to us.
        changed: Whether options changed the recipes.
        phantoms: Measured on invented data.
    """
    if phantoms:
        return INVENTED
    if measured.requested and test is not None:
        if measured.requested != test.cases:
            return f"{ANOTHER_LIST} ({measured.requested:,} cases, the paper's has {test.cases:,})"
        if test.ids and measured.ids != test.ids:
            return f"{ANOTHER_LIST} (as many cases, but others)"
    return ANOTHER_RECIPE if changed else ""


def _exactness(measured: Estimate, metric: Metric, cases: int) -> str:
    """Return how wide the interval of a share is, and how many cases would show a difference of one point."""
    if not (cases and 0 <= measured.low <= measured.high <= 1):
        return ""
    width = measured.high - measured.low
    words = f", {100 * width:.1f} points wide"
    needed = cases * (width / 2 / POINT) ** 2
    if needed > cases:
        digits = 10 ** max(0, len(str(int(needed))) - 2)
        words += f"; about {math.ceil(needed / digits) * digits:,} cases would show a difference of one point"
    return words
