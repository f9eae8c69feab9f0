"""A part of the report that needs more than predictions tables: the cohort, subgroups, boxes, decision curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ..statistics.intervals import Estimate


class MetricRow(NamedTuple):
    """One row of `metrics.csv`.

    Attributes:
        model: Name; empty where the metric is of no model.
        label: Name; empty for a metric over all labels.
        metric: Key in lower case, with its section first: `subgroup_sex_auroc`.
        estimate: Value, interval and reason.
        cases, positives: How many it is over; None where that means nothing.
    """

    model: str
    label: str
    metric: str
    estimate: Estimate
    cases: int | None = None
    positives: int | None = None


@dataclass(frozen=True)
class Section:
    """What the page, the JSON and the CSV get of it.

    Attributes:
        anchor: One word: the id on the page, the key in `report.json`, and the name of `templates/<anchor>.html.j2`,
            which holds one `<section aria-labelledby="<anchor>">` and finds the contents as `section.content`.
        title: For the navigation.
        after: The section of the page that it follows.
        content: For the template.
        plain: For `report.json`: dicts, lists, texts, numbers and None.
        metrics: For `metrics.csv`; those that are NaN are listed on the page with their reasons.
        methods: A paragraph for the section on methods; empty if nothing is to be said.
    """

    anchor: str
    title: str
    after: Literal["cases", "results", "thresholds", "calibration", "provenance"]
    content: Mapping[str, Any]
    plain: Any
    metrics: Sequence[MetricRow] = field(default_factory=list)
    methods: str = ""
