"""Metrics of predicted times, all weighted by the inverse probability of censoring as in scikit-survival.

Uno's C and time-dependent AUROC: Uno 2007, J. Am. Stat. Assoc. 102:527 and 2011, Stat. Med. 30:1105. Brier score: Graf
1999, Stat. Med. 18:2529. The distribution of censoring is that of the evaluated cases, in each resample its own.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ..statistics.intervals import Estimate, percentile
from ..statistics.metrics import ratio
from ..statistics.resampling import Drawn, PatientBootstrap, Reweighted
from ..statistics.scaled_intervals import LOG, LOGIT, on_scale
from .concordance import Pairs
from .kaplan_meier import kaplan_meier
from .measured import Measured, nothing

FIRST = ("c_harrell", "c_uno", "auroc_mean", "brier_integrated", "expected_observed")
NAMES = {
    "c_harrell": "Harrell’s C", "c_uno": "Uno’s C", "auroc_mean": "Mean time-dependent AUROC",
    "brier_integrated": "Integrated Brier score", "expected_observed": "Expected / observed events",
}  # fmt: skip
AT_TIME = {"auroc_at_": "AUROC at", "brier_at_": "Brier score at"}
LEAST = 5  # cases with an event until a time, and as many beyond it, for metrics at that time


def evaluated_times(times: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return those of the predicted times at which enough cases have had an event and enough are left.

    Args:
        times: (J,) of the predictions.
        truth: (N, 2) known times and events.
    """
    time, event = truth.T
    until = ((time <= times[:, None]) & (event == 1)).sum(axis=1)
    beyond = (time > times[:, None]).sum(axis=1)
    return times[(until >= LEAST) & (beyond >= LEAST)]


def free_at(times: np.ndarray, predicted: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Return (N, len(times)) event-free probabilities, between the (J,) predicted times on straight lines from 1."""
    knots, values = np.concatenate([[0.0], predicted]), np.column_stack([np.ones(len(free)), free])
    return np.array([np.interp(times, knots, row) for row in values]).reshape(len(free), len(times))


def survival_measured(
    truth: np.ndarray, risk: np.ndarray, free: np.ndarray, times: np.ndarray, bootstrap: PatientBootstrap
) -> Measured:
    """Return concordance, discrimination and calibration in time with intervals by patient.

    Args:
        truth: (N, 2) known times and events.
        risk: (N,), larger for sooner events.
        free: (N, J) event-free probabilities at the times.
        times: (J,) rising, as of `evaluated_times`; Uno's C looks at the events before the last.
        bootstrap: Patients of the cases.
    """
    names = (*FIRST, *(f"{head}{time:g}" for head in AT_TIME for time in times))
    if not len(truth):
        return nothing(names, "no scored case with known truth")
    time, event = truth[:, 0], truth[:, 1] == 1
    pairs, tau = Pairs(time, event, risk), times[-1] if len(times) else np.inf

    def of(weights: Reweighted) -> dict[str, np.ndarray]:
        return {"all": np.concatenate([_values(pairs, free, times, tau, own) for own in _weights(weights)])}

    values = _values(pairs, free, times, tau, np.ones((len(time), 1)))[0]
    few = min(bootstrap.having(event), bootstrap.size)
    none = f"no predicted time has {LEAST} cases with an event before and {LEAST} cases beyond it"
    reasons = ["no two cases can be compared"] * 2 + [none] * 3 + ["undefined"] * (len(names) - 5)
    drawn = bootstrap.drawn(of)["all"]
    return Measured(names, values, drawn, tuple(reasons), (few,) * len(names), _on_scales(names, values, drawn, few))


def _on_scales(names: Sequence[str], values: np.ndarray, drawn: Drawn, few: int) -> dict[str, Estimate]:
    """Return the intervals at single times, of which percentiles held the truth in 91 to 93 %; none if BCa is asked."""
    found = {}
    for name, value, draws in zip(names, values, drawn.resampled.T) if drawn.left_out is None else ():
        scale = {"auroc": LOGIT, "brier": LOG}.get(name.partition("_")[0])
        if scale is not None and not np.isnan(value):
            found[name] = on_scale(percentile(float(value), draws, few=few), draws, few, scale)
    return found


def _weights(weights: Reweighted) -> Iterator[np.ndarray]:
    """Yield how often each case is drawn: (N, r) blocks."""
    for block in weights.counts():
        yield block[weights.index].astype(np.float64)


def _values(pairs: Pairs, free: np.ndarray, times: np.ndarray, tau: float, weights: np.ndarray) -> np.ndarray:
    """Return (R, M) metrics under (N, R) weights."""
    time, event, risk = pairs
    concordant, comparable = pairs.sums(weights)
    censoring = kaplan_meier(time, event, weights, censoring=True)
    inverse = ratio(event[:, None], censoring.at(time)) * weights  # of cases with an event; NaN where none is left
    inverse = np.nan_to_num(inverse)
    unbiased = np.where((time < tau)[:, None], np.nan_to_num(ratio(inverse, censoring.at(time))), 0)
    # A weight squared by the censoring, but once by how often the case is drawn.
    found = [
        ratio((weights * concordant).sum(axis=0), (weights * comparable).sum(axis=0)),
        ratio((unbiased * concordant).sum(axis=0), (unbiased * comparable).sum(axis=0)),
    ]
    if not len(times):
        nan = np.full(weights.shape[1], np.nan)
        return np.stack([*found, nan, nan, nan], axis=1)
    curve = kaplan_meier(time, event, weights)
    aurocs = np.stack([_auroc(time, risk, t, inverse, weights) for t in times])
    briers = np.stack([_brier(time, event, free[:, j], t, censoring.at(np.array([t])), inverse, weights)
                       for j, t in enumerate(times)])  # fmt: skip
    observed = curve.at(times)
    falls = -np.diff(observed, axis=0, prepend=1)
    middle = len(times) // 2
    expected = ratio(((1 - free[:, [middle]]) * weights).sum(axis=0), weights.sum(axis=0))
    span = times[-1] - times[0]
    found += [
        ratio((aurocs * falls).sum(axis=0), 1 - observed[-1]),
        np.trapezoid(briers, times, axis=0) / span if len(times) > 1 else np.full(weights.shape[1], np.nan),
        ratio(expected, 1 - observed[middle]),
    ]
    return np.stack([*found, *aurocs, *briers], axis=1)


def _auroc(time: np.ndarray, risk: np.ndarray, when: float, inverse: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (R,) cumulative/dynamic AUROC at a time: events until then against cases beyond."""
    _, place = np.unique(risk, return_inverse=True)
    until, beyond = inverse * (time <= when)[:, None], weights * (time > when)[:, None]
    controls = np.zeros((place.max() + 1, weights.shape[1]))
    np.add.at(controls, place, beyond)
    below = controls.cumsum(axis=0) - controls / 2
    return ratio((until * below[place]).sum(axis=0), until.sum(axis=0) * beyond.sum(axis=0))


def _brier(
    time: np.ndarray, event: np.ndarray, free: np.ndarray, when: float, left: np.ndarray, inverse: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Return the (R,) Brier score at a time; `left` is the (1, R) probability of not being censored until then."""
    died = inverse * ((time <= when) & event)[:, None] * (free**2)[:, None]
    lives = np.nan_to_num(ratio(weights, left)) * (time > when)[:, None] * ((1 - free) ** 2)[:, None]
    return ratio((died + lives).sum(axis=0), weights.sum(axis=0))
