"""Both forms recover simulated curves, the largest size chooses, and bands cover."""

import numpy as np
import pytest
from clinvit.eval.statistics.learning_curve import (
    LOG,
    POWER,
    Measured,
    fit_learning_curve,
    fit_log,
    fit_power,
)
from clinvit.eval.statistics.scaling_law import fit_scaling_law
from scipy.optimize import curve_fit

SIZES = np.array([60.0, 120, 250, 500, 1000, 2000])
TRUE = {
    LOG: lambda n: 0.5 + 0.04 * np.log(n),
    POWER: lambda n: 0.88 - 1.5 * n**-0.5,
    "slow": lambda n: 0.85 - 0.6 * n**-0.25,
}


def simulated(seed, curve, runs=3, resamples=300, sizes=SIZES):
    """Runs that differ by their seeds, scored on 80 patients: what these have in common, and what a run has alone."""
    rng, patients = np.random.default_rng(seed), 80
    shared, own = rng.normal(0, 0.18, patients), rng.normal(0, 0.07, (len(sizes), runs, patients))
    weights = rng.multinomial(patients, np.full(patients, 1 / patients), size=resamples) / patients
    base = curve(sizes)[:, None] + rng.normal(0, 0.012, (len(sizes), runs))
    values = base + (shared + own).mean(-1)
    drawn = [base[k] + weights @ (shared + own[k]).T for k in range(len(sizes))]
    return Measured(sizes, list(values), drawn, few=patients)


def exact(curve, sizes=SIZES):
    return Measured(
        sizes, [curve(sizes[k : k + 1]) for k in range(len(sizes))], [np.full((5, 1), curve(n)) for n in sizes]
    )


@pytest.mark.parametrize("true", [(0.88, 1.5, 0.5), (0.85, 0.6, 0.25), (0.95, 40.0, 1.3), (0.6, -0.4, 0.7)])
def test_the_power_law_recovers_its_parameters(true):
    means = (true[0] - true[1] * SIZES ** -true[2])[None]
    assert fit_power(SIZES, means, np.ones(6))[0] == pytest.approx(true, rel=1e-5)


def test_noisy_points_are_fitted_as_scipy_does():
    rng = np.random.default_rng(0)
    means, counts = TRUE[POWER](SIZES) + rng.normal(0, 0.004, 6), np.array([1.0, 3, 3, 2, 3, 4])
    expected, _ = curve_fit(
        lambda n, top, c, d: top - c * n**-d, SIZES, means, p0=(0.9, 1, 0.4), sigma=counts**-0.5, xtol=1e-14, ftol=1e-14
    )
    assert fit_power(SIZES, means[None], counts)[0] == pytest.approx(expected, rel=1e-4)
    law = fit_scaling_law(means, {"n": SIZES})
    assert fit_log(SIZES, means[None], np.ones(6))[0] == pytest.approx(law.coefficients, rel=1e-10)


def test_the_limit_is_no_more_than_the_metric_can_be():
    means = (0.2 + 0.105 * np.log(SIZES))[None]  # rises without bending: unbounded, the limit would be far above 1
    assert fit_power(SIZES, means, np.ones(6), ceiling=np.inf)[0, 0] > 1.5
    assert fit_power(SIZES, means, np.ones(6))[0, 0] == 1


@pytest.mark.parametrize("form", [LOG, POWER])
def test_the_form_that_foretells_the_largest_size_is_taken(form):
    curve = fit_learning_curve(exact(TRUE[form]))
    assert curve.form == form
    log, power = curve.fit.errors[0]
    assert (log < 1e-9 < power) if form == LOG else (power < 1e-6 < log)
    gained = TRUE[form](3000.0) - TRUE[form](2000.0)
    assert curve.worth(1000).value == pytest.approx(gained, abs=1e-6)


def test_too_few_sizes_leave_no_choice():
    assert fit_learning_curve(exact(TRUE[LOG], SIZES[:1])) is None
    two, three = (fit_learning_curve(exact(TRUE[LOG], SIZES[:k])) for k in (2, 3))
    assert two.form == three.form == LOG and np.isnan(two.fit.errors).all() and np.isnan(three.fit.errors[0, 1])
    assert two.at(np.array([2000.0]))[0].value == pytest.approx(TRUE[LOG](2000))


def test_one_run_per_size_says_what_its_band_lacks():
    alone, three = (fit_learning_curve(simulated(0, TRUE[LOG], runs)).points()[0] for runs in (1, 3))
    assert "how runs differ" in alone.reason and not three.reason


def test_the_metric_never_exceeds_its_ceiling():
    curve = fit_learning_curve(exact(TRUE[LOG]))
    assert curve.at(np.array([1e9]))[0].value == 1 and curve.worth(1e9).value == pytest.approx(1 - TRUE[LOG](2000))


def coverage(curve, runs, times):
    covered = []
    for seed in range(times):
        found = fit_learning_curve(simulated(seed, curve, runs), seed)
        estimates = [*found.at(SIZES[[0, 2, 5]]), found.worth(1000)]
        true = [*curve(SIZES[[0, 2, 5]]), curve(3000.0) - curve(2000.0)]
        covered.append([own.low <= value <= own.high for own, value in zip(estimates, true)])
    return np.mean(covered, axis=0)


def test_bands_cover():
    # 80 simulations: below 0.87 is less than 1 in 500 where the band covers 95 %.
    assert coverage(TRUE[POWER], 3, 80).min() > 0.87


@pytest.mark.thorough
@pytest.mark.parametrize("runs", [2, 3, 5])
@pytest.mark.parametrize("form", TRUE)
def test_bands_cover_95_percent(form, runs):
    found = coverage(TRUE[form], runs, 400)
    assert (found > 0.92).all(), found  # two standard errors of 400 simulations are 0.022
