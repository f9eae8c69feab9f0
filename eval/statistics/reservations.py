"""Which intervals are believed: the one rule on small classes that every metric, mean, difference and verdict follows.

A metric is only as certain as its smaller class is large, counted in patients: images of one patient are no new
evidence. Below `FEW` such patients a bootstrap interval is clearly too narrow, so there is none, no mean over findings
includes the finding, and no verdict rests on it. From `FEW` to `MANY_PATIENTS` it is widened (`widened`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

FEW = 10  # patients in the smaller class below which a bootstrap interval is not believed
ENOUGH = 40  # from which a bootstrap interval takes the place of a score or exact one
MANY_PATIENTS = 100  # from which it is taken as it is: at 40, equal models would be called different in 6.7 %


class LeftOut(NamedTuple):
    """A label that no mean over labels includes, and the patients in its smaller class."""

    label: str
    patients: int


def too_few(patients: int) -> str:
    """Return why a metric has no interval; empty where its smaller class has enough patients."""
    if patients >= FEW:
        return ""
    if patients == 1:
        return "no interval: a class has cases of one patient only"
    return f"no interval: a class has cases of {patients} patients only, fewer than {FEW}"


def rough(patients: int) -> str:
    """Return what to bear in mind of an interval that holds for a small class; empty where the class is not small."""
    if patients >= FEW:
        return ""
    many = "1 patient" if patients == 1 else f"{patients} patients"
    return f"a class has cases of {many} only, fewer than {FEW}"


def rare_labels(labels: Sequence[str], smaller: np.ndarray) -> tuple[LeftOut, ...]:
    """Return the labels with too few patients in their smaller class, (L,) by label."""
    return tuple(LeftOut(label, int(n)) for label, n in zip(labels, smaller) if n < FEW)


def left_out_of_all(smaller: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Return the labels that one model or another has too few patients for, so that no model's mean includes them.

    Args:
        smaller: Model name to the patients in the smaller class by label.
    """
    least: dict[str, int] = {}
    for own in smaller.values():
        for label, patients in own.items():
            least[label] = min(patients, least.get(label, patients))
    return {label: patients for label, patients in least.items() if patients < FEW}


def left_out_words(found: Sequence[LeftOut]) -> str:
    """Return `left out, fewer than 10 positive or negative patients: hernia (1), mass (4)`; empty for none."""
    names = ", ".join(f"{each.label} ({each.patients})" for each in found)
    return f"left out, fewer than {FEW} positive or negative patients: {names}" if names else ""


def mean_size(variances: np.ndarray, patients: np.ndarray) -> float:
    """Return of how many patients a mean of several metrics is worth (Satterthwaite 1946, Biometrics Bulletin 2:110).

    Args:
        variances: (L,) of the metrics.
        patients: (L,) in their smaller classes, two or more.
    """
    if not variances.sum() > 0:
        return float(patients.min())
    return float(variances.sum() ** 2 / (variances**2 / (patients - 1)).sum() + 1)


def widened(levels: np.ndarray, patients: float | None) -> np.ndarray:
    """Return the levels at which few patients' draws are read: the expanded percentile interval.

    A percentile interval misses the factor n / (n - 1) of the variance, and the t distribution (Hesterberg 2015, The
    American Statistician 69:371).
    """
    if patients is None or patients >= MANY_PATIENTS:
        return levels
    return norm.cdf(student.ppf(levels, patients - 1) * np.sqrt(patients / (patients - 1)))


def widened_p(p: float, patients: float | None) -> float:
    """Return the two-sided p that belongs to an interval by `widened`."""
    if patients is None or patients >= MANY_PATIENTS or np.isnan(p):
        return p
    return float(2 * student.sf(norm.isf(p / 2) / np.sqrt(patients / (patients - 1)), patients - 1))
