"""The cells of a table and the remarks beside them, before any file format."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...eval.statistics.intervals import Estimate
from .result import DONE, FAILED, RowResult
from .table import Metric, Printed, Row, Table
from .verdict import obstacle, verdict

MOST_FREQUENT = "always saying the most frequent class"


@dataclass(frozen=True)
class Cell:
    """One metric of one row.

    Attributes:
        metric: The column.
        measured: None where it was not measured.
        paper: None where the paper prints no such metric.
        verdict: See `verdict.py`.
        baseline: Of a measured accuracy, that of always saying the most frequent class of the test cases; else None.
    """

    metric: Metric
    measured: Estimate | None
    paper: Printed | None
    verdict: str
    baseline: float | None = None

    def beside(self) -> str:
        """Return what an accuracy is to be read against, in words; empty for other metrics."""
        return "" if self.baseline is None else f"{MOST_FREQUENT}: {self.metric.number(self.baseline)}"


def cells(table: Table, row: Row, result: RowResult, phantoms: bool) -> list[Cell]:
    """Return the cells of a row, one per metric."""
    metrics, cases = result.measured.metrics, result.measured.cases
    why_not = obstacle(result.measured, table.test, bool(result.changes), phantoms)
    return [
        Cell(
            metric, metrics.get(metric.key), row.paper.get(metric.key),
            FAILED if result.state == FAILED else verdict(
                metrics.get(metric.key), row.paper.get(metric.key), metric, why_not, cases
            ),
            result.measured.baselines.get(metric.key),
        )
        for metric in table.metrics
    ]  # fmt: skip


def interval(measured: Estimate, metric: Metric) -> str:
    """Return the interval as `80.9 to 82.7 %`; empty where there is none."""
    if math.isnan(measured.low):
        return ""
    low, high = metric.number(measured.low), metric.number(measured.high)
    return f"{low.removesuffix(' %')} to {high}"


Rows = Sequence[tuple[Row, RowResult, list[Cell]]]


def cost_words(result: RowResult) -> str:
    """Return `3.2 h (25.6 h of all devices), NVIDIA H200, peak 41.0 GiB (GPU)`; empty where nothing ran."""
    cost = result.cost
    if not cost.starts:
        return ""
    several = cost.device_seconds > 1.001 * cost.seconds
    devices = f" ({_long(cost.device_seconds)} of all devices)" if several else ""
    return f"{_long(cost.seconds)}{devices}, {cost.device}, peak {cost.peak_gib:.1f} GiB ({cost.memory})"


def _long(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def remarks(row: Row, result: RowResult) -> list[str]:
    """Return what the reader should know of a row: why it has no metrics, what it started from, the table's note."""
    measured = result.measured
    sentences = [f"{result.state}: {result.reason}"] if result.state != DONE else []
    sentences += [f"started from {result.start}"] if result.start else []
    sentences += [f"recipe changed: {' '.join(result.changes)}"] if result.changes else []
    sentences += [f"left out without data: {', '.join(result.left_out)}"] if result.left_out else []
    sentences += [f"{measured.failed} test cases failed and are not in the metrics"] if measured.failed else []
    return sentences + ([row.note] if row.note and row.note != result.reason else [])
