"""One model at several sites: its metrics at each, and what a further site can expect (`meta_analysis`).

AUROC, sensitivity and specificity are pooled as logits, calibration in the large as it is. A site with fewer than 10
patients in a class that a metric needs is left out of the pooled value, by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import t as student

from ...core.errors import DataError, UserError
from ...datasets.manifest.tables import Predictions, nearest
from ..evaluation import Evaluation
from .calibration_fit import calibration_fit
from .delong import delong
from .groups import texts
from .intervals import LEVEL, Estimate, wilson
from .meta_analysis import Pooled, pooled, without_each
from .operating_points import OperatingPoint
from .resampling import PatientBootstrap
from .reservations import FEW, too_few

USUAL = ("site", "hospital", "institution", "institute", "center", "centre", "klinik", "clinic")
MOST = 100  # values of a column that is taken for sites unasked
SHARES = ("auroc", "sensitivity", "specificity")  # pooled as logits
METRICS = (*SHARES, "calibration_in_the_large")


@dataclass(frozen=True)
class SiteValue:
    """One metric at one site.

    Attributes:
        site: Its name.
        cases, positives, patients: With known truth.
        estimate: With its 95 % interval.
        value, variance: On the scale that is pooled; NaN where the site is left out.
    """

    site: str
    cases: int
    positives: int
    patients: int
    estimate: Estimate
    value: float
    variance: float


@dataclass(frozen=True)
class SiteMetric:
    """One metric of one label over the sites.

    Attributes:
        label, metric: Of these.
        sites: Each.
        pooled: Over those that are not left out, back on the metric's own scale; None with fewer than two.
        without: The pooled value without each site, by its name; empty with fewer than three.
    """

    label: str
    metric: str
    sites: list[SiteValue]
    pooled: Pooled | None
    without: dict[str, Pooled]

    @property
    def left_out(self) -> list[str]:
        """Return the sites that are not in the pooled value."""
        return [each.site for each in self.sites if np.isnan(each.value)]


def site_column(columns: pd.DataFrame, asked: str | None) -> str | None:
    """Return the column that names sites: the one that is asked for, or one that is called so and has several values.

    Raises:
        UserError: There is no such column, or it names one site only.
    """
    if asked is not None:
        if asked not in columns.columns:
            raise UserError(f"sites: the manifest has no column {asked!r}{nearest(asked, columns.columns)}.")
        if columns.columns.tolist().count(asked) > 1:
            raise DataError(f"sites: the column {asked!r} stands twice in the manifest. Rename or remove one.")
        if _values(columns[asked]) < 2:
            raise UserError(f"sites: the column {asked!r} names fewer than two sites.")
        return asked
    named = {str(name).strip().lower(): name for name in columns.columns}
    found = [named[name] for name in USUAL if name in named and columns.columns.tolist().count(named[name]) == 1]
    return next((name for name in found if 2 <= _values(columns[name]) <= MOST), None)


def _values(cells: pd.Series) -> int:
    own = texts(cells)
    return own[own != ""].nunique()


def site_metrics(
    table: Predictions, columns: pd.DataFrame, column: str, points: Sequence[OperatingPoint], evaluation: Evaluation
) -> list[SiteMetric]:
    """Compute every metric of every label at each site that a scored case is from, and pool it.

    Args:
        table: Of one model.
        columns: What is known of the cases, by id.
        column: Names the sites; cases without one are left out.
        points: One per label.
        evaluation: The split.
    """
    scored = table.rows(evaluation.split).scored()
    names = texts(columns[column].reindex(scored.table["id"])).to_numpy()
    sites = sorted(set(names) - {""})
    parts = {site: scored_rows(scored, names == site) for site in sites}
    found = []
    for i, label in enumerate(table.labels):
        for metric in METRICS:
            if metric in ("sensitivity", "specificity") and np.isnan(points[i].threshold):
                continue
            own = [_at_site(site, part, i, metric, points[i].threshold) for site, part in parts.items()]
            found.append(_over_sites(label, metric, own))
    return found


def scored_rows(scored: Predictions, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, pd.Series]:
    """Return truths, scores and patients of some cases."""
    return scored.truth()[rows], scored.scores()[rows], scored.table.loc[rows, "patient"]


def _over_sites(label: str, metric: str, sites: list[SiteValue]) -> SiteMetric:
    kept = [each for each in sites if not np.isnan(each.value)]
    if len(kept) < 2:
        return SiteMetric(label, metric, sites, None, {})
    values, variances = (np.array([getattr(each, name) for each in kept]) for name in ("value", "variance"))
    back = _back if metric in SHARES else lambda found: found
    without = without_each(values, variances) if len(kept) > 2 else []
    return SiteMetric(
        label, metric, sites, back(pooled(values, variances)),
        {each.site: back(found) for each, found in zip(kept, without)},
    )  # fmt: skip


def _back(found: Pooled) -> Pooled:
    """Return a pooled logit as a share; tau squared and the standard error stay those of the logits."""
    mean, low, high, new_low, new_high = (
        float(expit(value)) for value in (found.mean, found.low, found.high, found.new_low, found.new_high)
    )
    return found._replace(mean=mean, low=low, high=high, new_low=new_low, new_high=new_high)


def _at_site(site: str, part: tuple, label: int, metric: str, threshold: float) -> SiteValue:
    truth, score, patients = part[0][:, label], part[1][:, label], part[2]
    bootstrap = PatientBootstrap(patients, 10)
    known = ~np.isnan(truth)
    having = {kind: bootstrap.having(truth == kind) for kind in (0, 1)}
    needed = {"sensitivity": having[1], "specificity": having[0]}.get(metric, min(having.values()))
    if metric in ("sensitivity", "specificity"):
        kind = int(metric == "sensitivity")
        right = (score >= threshold) == (kind == 1)
        estimate, value, variance = _rate(right[truth == kind], bootstrap.index[truth == kind])
    else:
        compute = _auroc if metric == "auroc" else _in_the_large
        estimate, value, variance = compute(truth, score, bootstrap, needed)
    if needed < FEW and not np.isnan(estimate.value):
        estimate = Estimate(estimate.value, reason=too_few(needed))
    if needed < FEW or not variance > 0:
        value = variance = float("nan")
    return SiteValue(
        site, int(known.sum()), int((truth == 1).sum()), bootstrap.having(known), estimate, value, variance
    )


def _rate(right: np.ndarray, index: np.ndarray) -> tuple[Estimate, float, float]:
    """Return a share by Wilson's interval of the effective number of cases, its logit and the variance of that."""
    nan = float("nan")
    if not len(right):
        return Estimate(nan, reason="no such case"), nan, nan
    share = float(right.mean())
    off = np.bincount(index, weights=right - share) / len(right)
    variance = float((off**2).sum())
    size = min(len(right), share * (1 - share) / variance) if variance > 0 else len(np.unique(index))
    low, high = wilson(share * size, size)
    hits, misses = share * size + 0.5, (1 - share) * size + 0.5
    return Estimate(share, low, high, method="wilson"), float(np.log(hits / misses)), float(1 / hits + 1 / misses)


def _auroc(
    truth: np.ndarray, score: np.ndarray, bootstrap: PatientBootstrap, needed: int
) -> tuple[Estimate, float, float]:
    """Return the AUROC with DeLong's variance by patient, its interval on the logit scale, and logit with variance."""
    nan = float("nan")
    found = delong(truth, score[:, None], bootstrap.index)
    value, variance = float(found.auroc[0]), float(found.covariance[0, 0])
    if np.isnan(value):
        return Estimate(nan, reason="one class only"), nan, nan
    if not 0 < value < 1 or not variance > 0:
        return Estimate(value, reason="no interval: nothing varies between the patients"), nan, nan
    own, error = float(logit(value)), float(np.sqrt(variance) / (value * (1 - value)))
    half = student.ppf((1 + LEVEL) / 2, max(needed - 1, 1)) * error
    return Estimate(value, float(expit(own - half)), float(expit(own + half)), method="delong, logit"), own, error**2


def _in_the_large(
    truth: np.ndarray, score: np.ndarray, bootstrap: PatientBootstrap, needed: int
) -> tuple[Estimate, float, float]:
    found = calibration_fit(truth, score, bootstrap).in_the_large
    error = (found.high - found.low) / 2 / student.ppf((1 + LEVEL) / 2, max(needed - 1, 1))
    return found, found.value, error**2
