"""Metrics of groups of cases, one label for all groups at once, so that the same resamples serve them all."""

from typing import NamedTuple

import numpy as np

from . import metrics
from .intervals import Estimate, auroc_estimates, estimates, proportions
from .operating_points import OperatingPoint
from .resampling import Drawn, PatientBootstrap, Reweighted
from .unpaired import Gaps, auroc_gaps


class GroupedCases(NamedTuple):
    """The scored cases in G groups, of which the first is all of them.

    Attributes:
        truth, scores: (N, L).
        inside: (N, G) boolean.
        mirrored: (G,) boolean: the group is the second of two, so that its comparison is the first one's turned round.
        bootstrap: Of the N cases.
    """

    truth: np.ndarray
    scores: np.ndarray
    inside: np.ndarray
    mirrored: np.ndarray
    bootstrap: PatientBootstrap


class RatedLabel(NamedTuple):
    """One label in G groups.

    Attributes:
        metrics: G dicts by name.
        auroc, drawn: (G,) and the same in the resamples.
        smaller: (G, 2) patients in the smaller class, inside and outside of each group.
        gaps: Of the AUROC.
    """

    metrics: list[dict[str, Estimate]]
    auroc: np.ndarray
    drawn: Drawn
    smaller: np.ndarray
    gaps: Gaps


def rated_label(cases: GroupedCases, label: int, point: OperatingPoint | None) -> RatedLabel:
    """Compute one label's metrics in every group; without a point only the AUROC."""
    bootstrap, score = cases.bootstrap, cases.scores[:, label]
    truth = np.where(cases.inside, cases.truth[:, [label]], np.nan)
    outside = np.where(cases.inside, np.nan, cases.truth[:, [label]])
    scores = np.broadcast_to(score[:, None], truth.shape)
    smaller = np.column_stack([bootstrap.smaller_class(truth), bootstrap.smaller_class(outside)])
    drawn = bootstrap.drawn(lambda weights: {"auroc": weights.ranks(truth, scores)["auroc"]})["auroc"]
    values = metrics.auroc(truth, scores)
    by_metric = {"auroc": auroc_estimates(truth, values, drawn, metrics.reasons(truth), bootstrap)}
    if point is not None:
        by_metric |= _at_threshold(truth, scores, point, bootstrap)
        by_metric["mean_score_minus_prevalence"] = _mean_gap(truth, scores, bootstrap)
    return RatedLabel(
        metrics=[dict(zip(by_metric, own)) for own in zip(*by_metric.values())],
        auroc=values,
        drawn=drawn,
        smaller=smaller,
        gaps=auroc_gaps(cases.truth[:, label], score, cases.inside, bootstrap.index, bootstrap.size),
    )


def _at_threshold(
    truth: np.ndarray, scores: np.ndarray, point: OperatingPoint, bootstrap: PatientBootstrap
) -> dict[str, list[Estimate]]:
    """Compute sensitivity and specificity in G groups, from (N, G) truths and scores."""
    predicted = metrics.predicted_labels(scores, np.full(truth.shape[1], point.threshold))
    hits = {
        "sensitivity": np.where(truth == 1, predicted, np.nan),
        "specificity": np.where(truth == 0, 1 - predicted, np.nan),
    }
    return {
        name: proportions(own, bootstrap, [point.reason or metrics.RATE_REASONS[name]] * truth.shape[1])
        for name, own in hits.items()
    }


def _mean_gap(truth: np.ndarray, scores: np.ndarray, bootstrap: PatientBootstrap) -> list[Estimate]:
    """Compute the mean score minus prevalence in G groups, from (N, G) truths and scores."""
    gaps, known = scores - truth, ~np.isnan(truth)

    def mean(weights: Reweighted) -> dict[str, np.ndarray]:
        sums = weights.sums(np.concatenate([gaps, known], axis=1))
        return {"gap": metrics.ratio(*np.split(sums, 2, axis=1))}

    values = metrics.ratio(np.nansum(gaps, axis=0), known.sum(axis=0))
    few = bootstrap.smaller_class(truth)
    return estimates(values, bootstrap.drawn(mean)["gap"], ["no case with known truth"] * len(values), few)
