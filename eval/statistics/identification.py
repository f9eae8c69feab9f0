"""How well features link the images of a patient: nearest neighbours, retrieval, and verification of pairs.

P@1 and mAP@R are those of the re-identification literature (Musgrave et al. 2020, "A Metric Learning Reality Check";
Packhaeuser et al. 2022 for chest X-rays). A query is an image whose patient has another one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .intervals import Estimate
from .metrics import auroc

FALSE_MATCHES = 1e-4  # rate of pairs of two patients that are taken for one
_BLOCK = 512  # queries whose similarities to all images are held at once
NO_QUERY = "no patient has two images"
DEPENDENT = "no interval: pairs share their images"
# In simulation (150 runs, 15 and 60 patients of 3 images) a bootstrap by patient covers 91 to 94 %.
SHARED = "no interval: all queries are looked for in the same images"


@dataclass(frozen=True)
class Identification:
    """How well images of one patient are found by one of them.

    Attributes:
        precision_at_1: Share of queries whose most similar other image is of the same patient.
        map_at_r: Mean over queries of the average precision among the first R, R the patient's other images.
        auroc: Of pairs of one patient against pairs of two.
        linked: Share of the pairs of one patient above the threshold that `FALSE_MATCHES` of the others reach.
        queries: Images whose patient has another one.
        same: Pairs of one patient.
        other: Pairs of two patients; with `groups` those of one group alone.
    """

    precision_at_1: Estimate
    map_at_r: Estimate
    auroc: Estimate
    linked: Estimate
    queries: int
    same: int
    other: int


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Return (N, D) rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length == 0, 1, length)


def identification(
    features: np.ndarray, patients: Sequence[str], groups: Sequence[str] | None = None
) -> Identification:
    """Measure how well features link the images of a patient.

    Args:
        features: (N, D).
        patients: N names.
        groups: N names of, say, scanners. Other patients' images are those of the query's own group alone: what tells
            scanners apart does not tell patients apart.

    Raises:
        ValueError: The lengths differ, or a feature is no number.
    """
    times = np.zeros(len(features))
    return identification_by_time(features, patients, groups, times, [(0, np.inf)])[0]


def identification_by_time(
    features: np.ndarray,
    patients: Sequence[str],
    groups: Sequence[str] | None,
    times: np.ndarray,
    bins: Sequence[tuple[float, float]],
) -> list[Identification]:
    """Measure the same by how far apart in time two images of a patient are.

    Of the query's patient those images alone are looked for that are as far apart from it as a bin says; other
    patients' images are the same in each bin, and so is the threshold of pairs.

    Args:
        features: (N, D).
        patients: N names.
        groups: As of `identification`.
        times: (N,) times of the images; NaN where unknown, which is in no bin.
        bins: Of each the least difference, and what it stays below.

    Raises:
        ValueError: As of `identification`.
    """
    if len(patients) != len(features) or (groups is not None and len(groups) != len(features)):
        raise ValueError(f"{len(features)} features, {len(patients)} patients: one of each for every image.")
    if not np.isfinite(features).all():
        raise ValueError("a feature is no finite number.")
    rows = unit_rows(np.asarray(features, np.float64))
    who = np.unique(np.asarray(patients, str), return_inverse=True)[1]
    where = np.zeros(len(rows), int) if groups is None else np.unique(np.asarray(groups, str), return_inverse=True)[1]
    first: list[list[float]] = [[] for _ in bins]
    average: list[list[float]] = [[] for _ in bins]
    same: list[list[np.ndarray]] = [[] for _ in bins]
    other = []
    for start in range(0, len(rows), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(rows)))
        likeness = rows[block] @ rows.T
        for row, values in zip(block, likeness):
            mine = (who == who[row]) & (np.arange(len(rows)) != row)
            others = (who != who[row]) & (where == where[row])
            later = np.arange(len(rows)) > row  # each pair once
            other.append(values[others & later])
            apart = np.abs(times - times[row])
            for place, (least, below) in enumerate(bins):
                wanted = mine & (apart >= least) & (apart < below)
                same[place].append(values[wanted & later])
                relevant = int(wanted.sum())
                if relevant:
                    pool = wanted | others
                    found = wanted[pool][np.argsort(-values[pool], kind="stable")][:relevant]
                    first[place].append(float(found[0]))
                    average[place].append(
                        float((found * np.cumsum(found) / np.arange(1, relevant + 1)).sum() / relevant)
                    )
    negatives = np.concatenate([*other, []])
    found_by_bin = []
    for place in range(len(bins)):
        matches = np.concatenate([*same[place], []])
        area, linked = _verification(matches, negatives)
        found_by_bin.append(
            Identification(
                _mean(first[place]),
                _mean(average[place]),
                area,
                linked,
                len(first[place]),
                len(matches),
                len(negatives),
            )
        )
    return found_by_bin


def _mean(values: list[float]) -> Estimate:
    return Estimate(float(np.mean(values)), reason=SHARED) if values else Estimate(float("nan"), reason=NO_QUERY)


def _verification(matches: np.ndarray, others: np.ndarray) -> tuple[Estimate, Estimate]:
    """Return the AUROC of pairs, and the share of matches above the threshold of few false ones."""
    if not len(matches) or not len(others):
        why = NO_QUERY if not len(matches) else "no pair of two patients"
        return Estimate(float("nan"), reason=why), Estimate(float("nan"), reason=why)
    truth = np.concatenate([np.ones(len(matches)), np.zeros(len(others))])[:, None]
    area = float(auroc(truth, np.concatenate([matches, others])[:, None])[0])
    if len(others) * FALSE_MATCHES < 1:
        linked = Estimate(
            float("nan"), reason=f"{len(others):,} pairs of two patients: {1 / FALSE_MATCHES:,.0f} needed"
        )
    else:
        allowed = int(len(others) * FALSE_MATCHES)
        threshold = np.partition(others, len(others) - allowed - 1)[len(others) - allowed - 1]
        linked = Estimate(float((matches > threshold).mean()), reason=DEPENDENT)
    return Estimate(area, reason=DEPENDENT), linked


def alike_patients(features: np.ndarray, patients: Sequence[str], most: int = 20) -> list[tuple[int, int, float]]:
    """List the most similar images of two patients, once for each pair of patients: who may be one under two numbers.

    Args:
        features: (N, D).
        patients: N names.
        most: Pairs at most.

    Returns:
        (row, row, cosine), the most similar first.
    """
    rows, who = (
        unit_rows(np.asarray(features, np.float64)),
        np.unique(np.asarray(patients, str), return_inverse=True)[1],
    )
    best: dict[tuple[int, int], tuple[float, int, int]] = {}
    for row in range(len(rows) - 1):
        values = rows[row + 1 :] @ rows[row]
        values[who[row + 1 :] == who[row]] = -np.inf
        for place in np.argsort(-values, kind="stable")[:most]:
            if np.isfinite(values[place]):
                other = row + 1 + int(place)
                pair = (min(who[row], who[other]), max(who[row], who[other]))
                best[pair] = max(best.get(pair, (-np.inf, 0, 0)), (float(values[place]), row, other))
    ranked = sorted(best.values(), key=lambda each: (-each[0], each[1], each[2]))
    return [(row, other, value) for value, row, other in ranked[:most]]
