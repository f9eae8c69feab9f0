"""The fitted law recovers a simulated one, its intervals cover, and what cannot be fitted is refused."""

import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.eval.statistics.scaling_law import fit_scaling_law
from scipy.stats import linregress

TRUE = (-50.0, 2.0, 7.0)


def simulated(seed: int, noise: float = 1.5):
    rng = np.random.default_rng(seed)
    hours, px = np.tile([0.5, 5, 50, 500, 5000], 6), np.repeat([224.0, 448.0, 476.0], 10)
    metric = TRUE[0] + TRUE[1] * np.log(hours) + TRUE[2] * np.log(px) + rng.normal(0, noise, len(hours))
    return metric, {"hours": hours, "px": px}


def test_a_law_without_noise_is_recovered():
    law = fit_scaling_law(*simulated(0, noise=0))
    assert law.coefficients == pytest.approx(TRUE) and law.r2 == pytest.approx(1)
    assert law.predicted({"hours": 20000, "px": 952}).value == pytest.approx(-50 + 2 * np.log(20000) + 7 * np.log(952))


def test_one_factor_is_scipys_regression():
    metric, factors = simulated(1)
    expected = linregress(np.log(factors["hours"]), metric)
    law = fit_scaling_law(metric, {"hours": factors["hours"]})
    slope = law.slope("hours")
    assert slope.value == pytest.approx(expected.slope, rel=1e-12) and law.r2 == pytest.approx(expected.rvalue**2)
    assert (slope.high - slope.low) / 2 == pytest.approx(2.048407 * expected.stderr, rel=1e-6)  # t(0.975, 28)
    assert law.intercept().value == pytest.approx(expected.intercept, rel=1e-12)


def test_intervals_cover():
    at = {"hours": 20000, "px": 952}
    true = TRUE[0] + TRUE[1] * np.log(at["hours"]) + TRUE[2] * np.log(at["px"])
    covered = []
    for seed in range(1000):
        law = fit_scaling_law(*simulated(seed))
        slope, mean = law.slope("px"), law.predicted(at)
        covered.append((slope.low <= TRUE[2] <= slope.high, mean.low <= true <= mean.high))
    assert np.mean(covered, axis=0) == pytest.approx([0.95, 0.95], abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda metric, factors: (metric[:3], {name: values[:3] for name, values in factors.items()}),
            "over 3 points, not 3",
        ),
        (lambda metric, factors: (metric, factors | {"hours": factors["hours"] - 0.5}), "hours: .* above 0"),
        (lambda metric, factors: (metric, factors | {"px": np.full(30, 224.0)}), "constant or follows"),
        (lambda metric, factors: (metric, factors | {"px": factors["hours"] ** 2}), "constant or follows"),
        (lambda metric, factors: (np.where(metric > 0, np.nan, metric), factors), "at every point"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        fit_scaling_law(*change(*simulated(2)))
