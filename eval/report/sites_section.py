"""The report's section on several sites: each, taken together, and what a further site can expect."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ...datasets.manifest.tables import Predictions
from ..evaluation import Evaluation
from ..statistics.classes import exclusive
from ..statistics.intervals import NO_INTERVAL, Estimate
from ..statistics.operating_points import OperatingPoint
from ..statistics.sites import SiteMetric, site_column, site_metrics
from .formats import many, number
from .metrics_json import estimate_json
from .section import MetricRow, Section

NAMES = {
    "auroc": "AUROC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "calibration_in_the_large": "Calibration in the large",
}
MOST_SHOWN = 30  # labels on the page
METHODS = (
    "Sites: random effects, tau squared by restricted maximum likelihood, the interval of the mean by Hartung and "
    "Knapp (no narrower than without their factor), the prediction interval of the t distribution with K − 2 degrees "
    "of freedom. AUROC, sensitivity and specificity are pooled as logits, calibration in the large as it is. A site "
    "with fewer than 10 patients in a class that a metric needs is left out."
)


def sites_section(
    tables: Mapping[str, Predictions], columns: pd.DataFrame, points: Mapping[str, Sequence[OperatingPoint]],
    evaluation: Evaluation,
) -> Section | None:  # fmt: skip
    """Return the section after "Discrimination"; None where no column names sites, or labels are exclusive classes.

    Args:
        tables: Model name to its predictions.
        columns: What is known of the cases, by id.
        points: Model name to its operating points, one per label.
        evaluation: The split, and the column of the sites.
    """
    column = site_column(columns, evaluation.sites)
    own = {name: table for name, table in tables.items() if not exclusive(table)}
    if column is None or not own:
        return None
    found = {name: site_metrics(table, columns, column, points[name], evaluation) for name, table in own.items()}
    name, first = next(iter(found.items()))
    if not any(len(each.sites) > 1 for each in first):
        return None
    return Section(
        anchor="sites",
        title="Sites",
        after="results",
        content={
            "model": name,
            "column": column,
            "names": NAMES,
            "sentences": [words for each in first if each.metric == "auroc" and (words := _sentence(each))][
                :MOST_SHOWN
            ],
            "labels": _by_label(first),
        },
        plain={
            "column": column,
            "models": [
                {"model": name, "metrics": [_plain(each) for each in each_own]} for name, each_own in found.items()
            ],
        },
        metrics=[row for name, each_own in found.items() for each in each_own for row in _rows(name, each)],
        methods=METHODS,
    )


def _by_label(found: Sequence[SiteMetric]) -> dict[str, dict[str, SiteMetric]]:
    rows: dict[str, dict[str, SiteMetric]] = {}
    for each in found:
        rows.setdefault(each.label, {})[each.metric] = each
    return dict(list(rows.items())[:MOST_SHOWN])


def _sentence(found: SiteMetric) -> str:
    """Say what the sites have in common and how much they differ."""
    own = found.pooled
    if own is None:
        return f"{found.label}: fewer than two sites have enough patients to be taken together."
    words = (
        f"{found.label}: AUROC {number(own.mean, 2)} (95 % CI {number(own.low, 2)}–{number(own.high, 2)}) over "
        f"{many(own.sites, 'site')}, I² {100 * own.i2:.0f} %"
    )
    if own.sites > 2:
        words += f"; a further site can expect {number(own.new_low, 2)} to {number(own.new_high, 2)}"
        means = {site: each.mean for site, each in found.without.items()}
        low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
        words += f"; without {low} it would be {number(means[low], 2)}, without {high} {number(means[high], 2)}"
    left = f" Left out, too few patients: {', '.join(found.left_out)}." if found.left_out else ""
    return f"{words}.{left}"


def _rows(model: str, found: SiteMetric) -> list[MetricRow]:
    rows = [
        MetricRow(model, found.label, f"site_{found.metric}[{each.site}]", each.estimate, each.cases, each.positives)
        for each in found.sites
    ]
    own = found.pooled
    if own is None:
        return rows
    counted = f"{NO_INTERVAL}: of {own.sites} sites"
    named = {
        "pooled": Estimate(own.mean, own.low, own.high, method="random effects"),
        "prediction": Estimate(
            own.mean,
            own.new_low,
            own.new_high,
            reason="" if own.sites > 2 else "no prediction interval from two sites",
            method="prediction interval",
        ),
        "i_squared": Estimate(own.i2, reason=counted),
        "tau_squared": Estimate(own.tau2, reason=counted),
    }
    return rows + [MetricRow(model, found.label, f"sites_{found.metric}_{name}", e) for name, e in named.items()]


def _plain(found: SiteMetric) -> dict[str, Any]:
    return {
        "label": found.label,
        "metric": found.metric,
        "sites": [
            {"site": each.site, "n": each.cases, "positives": each.positives, "patients": each.patients}
            | estimate_json(each.estimate)
            for each in found.sites
        ],
        "pooled": None if found.pooled is None else found.pooled._asdict(),
        "without": {site: each._asdict() for site, each in found.without.items()},
        "left_out": found.left_out,
    }
