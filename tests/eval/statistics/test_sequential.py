"""Betting martingales: false alarms at any of thousands of looks, real shifts found, intervals that cover."""

import numpy as np
import pytest
from clinvit.eval.statistics.sequential import (
    BETS,
    EVERY,
    first_alarm,
    log_evidence,
    mean_bounds,
    two_sided_evidence,
)

ALPHA = 0.05
LOOKS = 5000


def alarms(values, low, high, alpha=ALPHA):
    """Whether each of (S, T) series ever leaves its bounds, as `two_sided_evidence` has it."""
    both = np.logaddexp(log_evidence(1 - values, 1 - low), log_evidence(values, high)) - np.log(2)
    return (both >= -np.log(alpha)).any(axis=-1)


def within(share: float, count: int) -> float:
    """The most false alarms that a rate of `share` explains, by three standard errors."""
    return share + 3 * np.sqrt(share * (1 - share) / count)


@pytest.mark.parametrize("kind", ["rare", "common", "thirds", "continuous"])
def test_false_alarms_over_thousands_of_looks_stay_below_alpha(kind):
    """The reference is drawn too: its bounds have half of alpha, the bets the other half."""
    rng, runs = np.random.default_rng(1), 150
    draw = {
        "rare": lambda *size: rng.binomial(1, 0.03, size),
        "common": lambda *size: rng.binomial(1, 0.5, size),
        "thirds": lambda *size: rng.binomial(3, 0.2, size) / 3,
        "continuous": lambda *size: rng.beta(20, 20, size),
    }[kind]
    bounds = np.array([mean_bounds(draw(200, 1), ALPHA / 2) for _ in range(runs)])[..., 0]
    false = alarms(draw(runs, LOOKS).astype(float), bounds[:, 0], bounds[:, 1], ALPHA / 2)
    assert false.mean() <= within(ALPHA, runs)


def test_even_at_the_bound_itself_false_alarms_stay_below_alpha():
    """The hardest case: the mean lies exactly on a bound. And the test can fail: naive looks give many alarms."""
    rng, runs = np.random.default_rng(2), 250
    values = rng.binomial(1, 0.2, (runs, LOOKS)).astype(float)
    assert 0 < alarms(values, np.full(runs, 0.0), np.full(runs, 0.2)).mean() <= within(ALPHA, runs)
    count = np.arange(1, LOOKS + 1)
    naive = (values.cumsum(axis=1) / count - 0.2) / np.sqrt(0.16 / count) > 1.645
    assert naive[:, 30:].any(axis=1).mean() > 0.3


def test_a_real_shift_is_found_at_once_and_after_a_long_quiet_time():
    rng, runs = np.random.default_rng(3), 100
    shifted = rng.binomial(1, 0.3, (runs, 1000)).astype(float)
    low, high = np.full(runs, 0.07), np.full(runs, 0.13)
    assert alarms(shifted[:, :300], low, high).mean() > 0.95
    late = np.concatenate([rng.binomial(1, 0.1, (runs, 4000)), shifted], axis=1).astype(float)
    assert alarms(late, low, high).mean() > 0.99
    fallen = rng.binomial(1, 0.01, (runs, 1000)).astype(float)
    assert alarms(fallen, low, high).mean() > 0.95


def test_evidence_is_what_its_definition_says():
    """One bet after the other, begun every so many patients, in plain arithmetic."""
    rng, bound = np.random.default_rng(4), 0.3
    values = rng.uniform(size=3 * EVERY + 5)
    wealth = []
    for end in range(1, len(values) + 1):
        total, parts = 0.0, 0.0
        for number, start in enumerate(range(0, end, EVERY), start=1):
            weight = 1 / (number * (number + 1))
            parts += weight
            total += weight * np.mean([np.prod(1 + bet * (values[start:end] / bound - 1)) for bet in BETS])
        wealth.append(total + 1 - parts)
    np.testing.assert_allclose(np.exp(log_evidence(values, bound)), wealth, rtol=1e-12)


def test_later_patients_change_no_earlier_evidence():
    values = np.random.default_rng(5).uniform(size=(90, 2))
    bounds = np.array([0.4, 0.3]), np.array([0.6, 0.5])
    whole, parts = two_sided_evidence(values, *bounds)
    np.testing.assert_allclose(two_sided_evidence(values[:40], *bounds)[0], whole[:40], rtol=1e-12)
    assert parts.shape == (90, 4)
    np.testing.assert_allclose(np.exp(parts).mean(axis=1), np.exp(whole))
    np.testing.assert_allclose(parts[:, 3], log_evidence(values[:, 1], 0.5))


def test_bounds_that_cannot_be_left_give_no_evidence():
    values = np.ones((60, 1))
    evidence, _ = two_sided_evidence(values, np.array([0.0]), np.array([1.0]))
    np.testing.assert_allclose(evidence, 0, atol=1e-12)
    assert first_alarm(evidence, 0.05) is None
    assert first_alarm(np.log([1, 19, 21, 3]), 0.05) == 2


def test_bounds_of_a_mean_cover_it_and_narrow():
    rng, runs = np.random.default_rng(6), 100
    for mean, draw in ((0.05, lambda n: rng.binomial(1, 0.05, (n, 1))), (0.5, lambda n: rng.beta(9, 9, (n, 1)))):
        low, high = np.array([mean_bounds(draw(150), 0.05) for _ in range(runs)])[..., 0].T
        assert ((low > mean) | (high < mean)).mean() <= within(0.05, runs)
        wide, narrow = (np.subtract(*mean_bounds(draw(n), 0.05)[::-1])[0] for n in (100, 4000))
        assert narrow < wide / 4
    low, high = mean_bounds(np.array([[0.0, 1.0]] * 50), 0.05)
    assert low[0] == 0 and 0 < high[0] < 0.2 and high[1] == 1 and 0.8 < low[1] < 1
