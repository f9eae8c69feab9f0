"""How many cases a study needs, before there are any: for an AUROC, for its calibration, for two models.

Cases of one patient resemble each other: with m cases per patient and a correlation of rho between them, numbers grow
by the design effect 1 + (m - 1) rho. Proportions, such as a sensitivity, are in `exact`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import beta, norm

from ...core.errors import UserError
from .intervals import LEVEL

_Z = norm.ppf((1 + LEVEL) / 2)
_MOST = 10**9
_POINTS = 200_000  # quantiles that stand for a distribution of scores


@dataclass(frozen=True)
class Validation:
    """Cases for an external validation, by what is to be known well.

    Attributes:
        observed_expected: For the ratio of observed to expected positive cases (calibration in the large).
        slope: For the calibration slope.
        auroc: For the AUROC.
    """

    observed_expected: int
    slope: int
    auroc: int

    @property
    def cases(self) -> int:
        """Return the largest: enough for all three."""
        return max(self.observed_expected, self.slope, self.auroc)


def auroc_error(auroc: float, prevalence: float, cases: float) -> float:
    """Compute the standard error of an AUROC (Newcombe 2006, Statistics in Medicine 25:559, method 4)."""
    half = cases / 2 - 1
    spread = 1 + half * (1 - auroc) / (2 - auroc) + half * auroc / (1 + auroc)
    return float(np.sqrt(auroc * (1 - auroc) * spread / (cases**2 * prevalence * (1 - prevalence))))


def cases_for_auroc_width(auroc: float, prevalence: float, width: float) -> int:
    """Return how many cases give a 95 % interval of an AUROC that is at most so wide."""
    return _fewest(lambda cases: 2 * _Z * auroc_error(auroc, prevalence, cases) <= width)


def cases_for_auroc(auroc: float, minimum: float, prevalence: float, confidence: float, power: float) -> int | None:
    """Return how many cases show that an AUROC is above a minimum, by its one-sided bound; None where it is not."""
    if not auroc > minimum:
        return None
    sigmas = norm.ppf(confidence) + norm.ppf(power)
    return _fewest(lambda cases: sigmas * auroc_error(auroc, prevalence, cases) <= auroc - minimum)


def cases_for_difference(
    first: float, second: float, correlation: float, prevalence: float, margin: float, power: float
) -> int | None:
    """Return how many cases, scored by both models, show that the first AUROC is above the second less the margin.

    By the two-sided 95 % interval of the paired difference (Obuchowski & McClish 1997, Statistics in Medicine 16:1529).

    Args:
        first: AUROC that is expected of the first model.
        second: Of the second.
        correlation: Of the two estimates; 0.5 is usual for models of the same images.
        prevalence: Share of positive cases.
        margin: Of non-inferiority; 0 to show that the first is better.
        power: Chance that it is shown.

    Returns:
        The number; None where the first is not above the second less the margin.
    """
    distance = first - second + margin
    if not distance > 1e-9:  # less is rounding
        return None
    sigmas = _Z + norm.ppf(power)

    def enough(cases: float) -> bool:
        one, two = (auroc_error(own, prevalence, cases) for own in (first, second))
        return sigmas * np.sqrt(one**2 + two**2 - 2 * correlation * one * two) <= distance

    return _fewest(enough)


def validation_cases(
    auroc: float, prevalence: float, logits: np.ndarray, widths: tuple[float, float, float] = (0.2, 0.2, 0.1)
) -> Validation:
    """Return the cases for an external validation as `pmvalsampsize` has them, for a model that is well calibrated.

    Riley et al. 2021 (Statistics in Medicine 40:4230).

    Args:
        auroc: That is expected.
        prevalence: Share of positive cases.
        logits: (K,) logits of the scores that are expected, each as likely.
        widths: Of the 95 % intervals of O/E (expected 1), of the slope (expected 1) and of the AUROC.
    """
    of_ratio, of_slope, of_auroc = widths
    error = np.arcsinh(of_ratio / 2) / _Z  # exp(z e) - exp(-z e) is the width
    p = expit(logits)
    weight = p * (1 - p)
    level, mixed, squared = (float((weight * logits**power).mean()) for power in range(3))
    slope = level / ((of_slope / (2 * _Z)) ** 2 * (level * squared - mixed**2))
    return Validation(
        observed_expected=int(np.ceil((1 - prevalence) / (prevalence * error**2))),
        slope=int(np.ceil(slope)),
        auroc=cases_for_auroc_width(auroc, prevalence, of_auroc),
    )


def normal_logits(mean: float, std: float) -> np.ndarray:
    """Return quantiles of normal logits."""
    return norm.ppf(_quantiles(), mean, std)


def beta_logits(a: float, b: float) -> np.ndarray:
    """Return the logits of quantiles of scores with a beta distribution."""
    return logit(beta.ppf(_quantiles(), a, b))


def logits_of(auroc: float, prevalence: float) -> np.ndarray:
    """Return logits that go with an AUROC and a prevalence: normal among positive and among negative cases.

    Both have the same variance, their distance gives the AUROC, and the mean score is the prevalence.
    """
    variance = 2 * norm.ppf(auroc) ** 2
    negative = norm.ppf(_quantiles(), 0, np.sqrt(variance))
    ill = round(_POINTS * prevalence)
    rows = np.linspace(0, _POINTS - 1, max(ill, 1)).astype(int), np.linspace(0, _POINTS - 1, _POINTS - ill).astype(int)
    both = np.concatenate([negative[rows[0]] + variance, negative[rows[1]]])
    return both + brentq(lambda shift: float(expit(both + shift).mean()) - prevalence, -100, 100)


def with_clusters(cases: int, per_patient: float, within: float) -> int:
    """Return the cases needed where so many of each patient correlate so much."""
    return int(np.ceil(cases * (1 + (per_patient - 1) * within)))


def check_shares(**shares: float | None) -> None:
    """Raise unless every value that is given lies between 0 and 1.

    Raises:
        UserError: One does not.
    """
    for name, value in shares.items():
        if value is not None and not 0 < value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value:g}: a share between 0 and 1, such as 0.9.")


def _quantiles() -> np.ndarray:
    return (np.arange(_POINTS) + 0.5) / _POINTS


def _fewest(enough) -> int:
    """Return the smallest number of cases for which `enough` holds, which it does from there on.

    Raises:
        UserError: They are more than a billion.
    """
    low, high = 2, 4
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST:
            raise UserError("more than a billion cases: ask for less.")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high
