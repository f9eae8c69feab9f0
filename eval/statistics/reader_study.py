"""Several readers and cases: the model against readers, and readers with and without it (Obuchowski & Rockette).

Obuchowski & Rockette 1995 (Commun. Statist. Simul. 24:285) with the degrees of freedom of Hillis 2007 (Statist. Med.
26:596); a model that stands alone against the readers as in Hillis et al. 2017 (Statist. Med. 36:3958), readers and
cases random. What they need is a metric by reader and the covariance of all of them over cases, here by patient.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import f as fisher
from scipy.stats import norm
from scipy.stats import t as student

from .intervals import LEVEL, Estimate


class Tested(NamedTuple):
    """A difference of means over readers.

    Attributes:
        difference: With its interval.
        statistic: t of a difference, F of several modalities.
        degrees: Of freedom, of t or of F's denominator; infinite for one reader, who is then no sample of readers.
        p: Two-sided.
    """

    difference: Estimate
    statistic: float
    degrees: float
    p: float


class Components(NamedTuple):
    """What the test of modalities rests on: mean squares, and covariances over cases.

    Attributes:
        treatment, interaction: Mean squares of the modalities, and of modalities by readers.
        same_reader, same_modality, neither: Cov1, Cov2 and Cov3, means over pairs of metrics.
        modalities, readers: I and J.
    """

    treatment: float
    interaction: float
    same_reader: float
    same_modality: float
    neither: float
    modalities: int
    readers: int

    @property
    def denominator(self) -> float:
        """Return the mean square that modalities are held against."""
        return self.interaction + max(0.0, self.readers * (self.same_modality - self.neither))

    @property
    def degrees(self) -> float:
        """Return Hillis's degrees of freedom of the denominator."""
        free = (self.modalities - 1) * (self.readers - 1)
        return float("inf") if self.interaction == 0 else self.denominator**2 / (self.interaction**2 / free)

    def test(self) -> tuple[float, float]:
        """Return F and p."""
        ratio = self.treatment / self.denominator
        return ratio, float(fisher.sf(ratio, self.modalities - 1, self.degrees))


def against_model(readers: np.ndarray, model: float, covariance: np.ndarray) -> Tested:
    """Test the model's metric minus the mean of the (J,) readers'.

    Args:
        readers: Their metrics.
        model: Its metric.
        covariance: (J + 1, J + 1) over cases, the model last.
    """
    count = len(readers)
    contrast = np.column_stack([-np.eye(count), np.ones(count)])
    gaps, own = model - readers, contrast @ covariance @ contrast.T
    value = float(gaps.mean())
    if count == 1:
        return _tested(value, float(own[0, 0]), float("inf"))
    between = float(np.var(gaps, ddof=1))
    shared = count * max(0.0, float((own.sum() - np.trace(own)) / (count * (count - 1))))
    degrees = float("inf") if between == 0 else (between + shared) ** 2 / (between**2 / (count - 1))
    return _tested(value, (between + shared) / count, degrees)


def components(metrics: np.ndarray, covariance: np.ndarray) -> Components:
    """Compute what the test of I modalities by J readers, each of whom read with all, rests on.

    Args:
        metrics: (I, J), J two or more.
        covariance: (I J, I J) over cases, in the order of the flattened metrics.
    """
    modalities, readers = metrics.shape
    by_modality, by_reader, mean = metrics.mean(axis=1), metrics.mean(axis=0), metrics.mean()
    apart = metrics - by_modality[:, None] - by_reader[None] + mean
    modality, reader = np.divmod(np.arange(metrics.size), readers)
    same_modality, same_reader = modality[:, None] == modality, reader[:, None] == reader
    return Components(
        treatment=float(readers * ((by_modality - mean) ** 2).sum() / (modalities - 1)),
        interaction=float((apart**2).sum() / ((modalities - 1) * (readers - 1))),
        same_reader=float(covariance[same_reader & ~same_modality].mean()),
        same_modality=float(covariance[same_modality & ~same_reader].mean()),
        neither=float(covariance[~same_modality & ~same_reader].mean()),
        modalities=modalities,
        readers=readers,
    )


def between_modalities(metrics: np.ndarray, covariance: np.ndarray) -> Tested:
    """Test the second minus the first of two modalities, (2, J); the covariance is that of `components`."""
    found = components(metrics, covariance)
    difference = float(metrics[1].mean() - metrics[0].mean())
    return _tested(difference, 2 * found.denominator / found.readers, found.degrees)


def _tested(value: float, variance: float, degrees: float) -> Tested:
    nan = float("nan")
    if not variance > 1e-15:
        return Tested(Estimate(value, reason="no interval: nothing varies between readers and patients"), nan, nan, nan)
    error, law = np.sqrt(variance), norm if np.isinf(degrees) else student(degrees)
    half = float(law.ppf((1 + LEVEL) / 2) * error)
    own = Estimate(value, value - half, value + half, method="obuchowski-rockette, by patient")
    return Tested(own, float(value / error), float(degrees), float(2 * law.sf(abs(value) / error)))
