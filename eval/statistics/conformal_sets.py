"""Split-conformal sets: the labels that cannot be ruled out, so that the truth is among them as often as was asked.

A set holds what conforms as well as the worst but few of the validation cases (Vovk et al. 2005; Sadinle et al. 2019,
J. Am. Stat. Assoc. 114:223): one minus the score of the class is at most the ceil((n + 1)(1 - alpha))-th smallest of
the n true ones. Of exclusive classes one limit serves all, and coverage holds on average over them; of a finding there
is one limit for its presence and one for its absence, so that coverage holds for both kinds of case. Coverage is that
of one case of a new patient of the same kind, on average over validation sets: one case of each patient counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .intervals import Estimate, PatientBootstrap, proportions
from .triage import EVERY, one_per_patient


@dataclass(frozen=True)
class ConformalSets:
    """Sets of one finding, or of all exclusive classes.

    Attributes:
        label: The finding; empty for classes.
        classes: What a set may hold: `absent`, `present`, or the classes.
        limits: (C,) the largest 1 - score that a member may have; above 1 where too few cases say it: always a member.
        calibrated: (C,) validation patients behind each limit.
        metrics: On the evaluated cases: `coverage` and that of each class, the shares with `one`, `several`, `none`.
        mean_size: Members of a set on average.
    """

    label: str
    classes: tuple[str, ...]
    limits: np.ndarray
    calibrated: np.ndarray
    metrics: dict[str, Estimate]
    mean_size: float


def conformal_limit(misfit: np.ndarray, coverage: float) -> float:
    """Return the limit that so large a share of cases like these (n,) stays within; above 1 where n is too small."""
    rank = int(np.ceil((len(misfit) + 1) * coverage - 1e-9))
    return float(np.sort(misfit)[rank - 1]) if rank <= len(misfit) else EVERY


def finding_sets(
    label: str,
    val: tuple[np.ndarray, np.ndarray, Sequence[str]],
    test: tuple[np.ndarray, np.ndarray],
    bootstrap: PatientBootstrap,
    coverage: float,
    seed: int = 0,
) -> ConformalSets:
    """Make sets of `absent` and `present`.

    Args:
        label: The finding.
        val: (N,) truths of 0, 1, NaN, scores and patients of the validation cases.
        test: (M,) truths and scores of the evaluated cases.
        bootstrap: The M cases' patients.
        coverage: Share of the cases of either kind whose truth is to be in the set.
        seed: Of the draw of one case per patient.
    """
    truth, score, patients = val
    limits, calibrated = [], []
    for kind in (0, 1):  # one case of each patient of that kind
        rows = one_per_patient(patients, truth == kind, seed)
        limits.append(conformal_limit(1 - _of_class(score[rows])[:, kind], coverage))
        calibrated.append(len(rows))
    members = 1 - _of_class(test[1]) <= np.array(limits)
    place = np.where(np.isnan(test[0]), -1, np.nan_to_num(test[0])).astype(int)
    return _applied(label, ("absent", "present"), members, place, np.array(limits), np.array(calibrated), bootstrap)


def class_sets(
    classes: Sequence[str],
    val: tuple[np.ndarray, np.ndarray, Sequence[str]],
    test: tuple[np.ndarray, np.ndarray],
    bootstrap: PatientBootstrap,
    coverage: float,
    seed: int = 0,
) -> ConformalSets:
    """Make sets of exclusive classes; the truths are (N,) and (M,) places of classes, -1 where unknown."""
    place, scores, patients = val
    rows = one_per_patient(patients, place >= 0, seed)
    limit = conformal_limit(1 - scores[rows, place[rows]], coverage)
    limits, calibrated = np.full(len(classes), limit), np.full(len(classes), len(rows))
    return _applied("", tuple(classes), 1 - test[1] <= limit, test[0], limits, calibrated, bootstrap)


def _of_class(score: np.ndarray) -> np.ndarray:
    """Return the scores of absence and presence, (N, 2)."""
    return np.column_stack([1 - score, score])


def _applied(
    label: str, classes: tuple[str, ...], members: np.ndarray, place: np.ndarray, limits: np.ndarray,
    calibrated: np.ndarray, bootstrap: PatientBootstrap,
) -> ConformalSets:  # fmt: skip
    known, size = place >= 0, members.sum(axis=1)
    inside = members[np.arange(len(place)), np.maximum(place, 0)]
    hits = {"coverage": np.where(known, inside, np.nan)}
    hits |= {f"coverage_of_{name}": np.where(place == k, inside, np.nan) for k, name in enumerate(classes)}
    hits |= {"one": size == 1, "several": size > 1, "none": size == 0}
    found = proportions(
        np.column_stack(list(hits.values())).astype(np.float64), bootstrap, ["no such case"] * len(hits)
    )
    mean = float(size.mean()) if len(size) else float("nan")
    return ConformalSets(label, classes, limits, calibrated, dict(zip(hits, found)), mean)
