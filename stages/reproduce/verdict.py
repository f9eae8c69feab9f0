"""Does the measured metric agree with the printed one?"""

import math

from ...eval.statistics.intervals import Estimate
from .table import Metric, Printed

INSIDE = "agrees: the paper's value is inside the interval"
ABOVE = "measured above the paper"
BELOW = "measured below the paper"
UNKNOWN = "paper's value not known to us"
NO_INTERVAL = "no interval to judge by"
UNDEFINED = "undefined"
NOT_RUN = "not run"
INVENTED = "not comparable: invented data"


def verdict(measured: Estimate | None, paper: Printed | None, metric: Metric, phantoms: bool = False) -> str:
    """Return one of the sentences above.

    A printed value means every value that rounds to it. It agrees if any of these is inside the 95 % interval.

    Args:
        measured: None where the row was not run or the metric was not measured.
        paper: None, or a metric without value, where it is not known.
        metric: The column, which says how many decimals are printed.
        phantoms: Measured on invented data, which the paper's value says nothing about.
    """
    if measured is None:
        return NOT_RUN
    if math.isnan(measured.value):
        return UNDEFINED
    if phantoms:
        return INVENTED
    if paper is None or paper.value is None:
        return UNKNOWN
    if math.isnan(measured.low):
        return NO_INTERVAL
    half = 0.5 * 10**-metric.digits
    if paper.value + half < measured.low:
        return ABOVE
    return BELOW if paper.value - half > measured.high else INSIDE
