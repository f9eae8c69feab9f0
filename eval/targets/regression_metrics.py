"""Metrics of predicted numbers from weighted sums, so that a resample of patients costs no pass over the cases.

Lin's concordance: Lin 1989, Biometrics 45:255. Limits of agreement: Bland and Altman 1986, Lancet 327:307.
"""

import numpy as np

from ..statistics.intervals import Estimate, percentile
from ..statistics.metrics import ratio
from ..statistics.resampling import Drawn, PatientBootstrap, Reweighted
from ..statistics.scaled_intervals import BELOW_ONE, FISHER, on_scale
from .measured import Measured, nothing
from .regression_intervals import error_intervals

METRICS = ("mae", "rmse", "r2", "concordance", "bias", "limit_low", "limit_high")
NAMES = {
    "mae": "Mean absolute error", "rmse": "Root mean squared error", "r2": "R²", "concordance": "Lin’s concordance",
    "bias": "Bias (predicted − true)", "limit_low": "Lower limit of agreement",
    "limit_high": "Upper limit of agreement",
}  # fmt: skip
LIMIT = 1.959963984540054  # standard deviations of the differences: 95 % of normal ones lie within


def regression_values(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Return metrics, (R,) each, from (R, 7) `case_sums` of resamples."""
    n, truth, value, squared_truth, squared_value, product, error = sums.T
    mean_truth, mean_value = ratio(truth, n), ratio(value, n)
    var_truth, var_value = ratio(squared_truth, n) - mean_truth**2, ratio(squared_value, n) - mean_value**2
    # What rounding has left of a constant is none.
    var_truth = np.where(var_truth > 1e-12 * ratio(squared_truth, n), var_truth, 0.0)
    covariance = ratio(product, n) - mean_truth * mean_value
    bias = mean_value - mean_truth
    mse = var_truth + var_value - 2 * covariance + bias**2
    spread = np.sqrt(np.maximum(mse - bias**2, 0) * ratio(n, n - 1))
    return {
        "mae": ratio(error, n),
        "rmse": np.sqrt(np.maximum(mse, 0)),
        "r2": 1 - ratio(mse, var_truth),
        "concordance": ratio(2 * covariance, var_truth + var_value + bias**2),
        "bias": bias,
        "limit_low": bias - LIMIT * spread,
        "limit_high": bias + LIMIT * spread,
    }


def case_sums(truth: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return (N, 7) of which metrics need the sums; both are (N,), moved by the mean truth so that nothing cancels."""
    truth, value = truth - truth.mean(), value - truth.mean()
    return np.column_stack(
        [np.ones(len(truth)), truth, value, truth**2, value**2, truth * value, np.abs(value - truth)]
    )


def regression_measured(truth: np.ndarray, value: np.ndarray, bootstrap: PatientBootstrap) -> Measured:
    """Return MAE, RMSE, R², Lin's concordance, bias and limits of agreement with intervals by patient.

    Args:
        truth: (N,) of cases with known truth.
        value: (N,) the predicted ones.
        bootstrap: Their patients.
    """
    if not len(truth):
        return nothing(METRICS, "no scored case with known truth")
    cells = case_sums(truth, value)

    def of(weights: Reweighted) -> dict[str, np.ndarray]:
        found = regression_values(weights.sums(cells))
        return {"all": np.column_stack([found[metric] for metric in METRICS])}

    own = regression_values(cells.sum(axis=0, keepdims=True))
    values = np.array([own[metric][0] for metric in METRICS])
    constant = "the truth is the same in all cases"
    reasons = [constant if metric in ("r2", "concordance") else "one case only" for metric in METRICS]
    few = (bootstrap.size,) * len(METRICS)
    drawn = bootstrap.drawn(of)["all"]
    return Measured(METRICS, values, drawn, tuple(reasons), few, _intervals(value - truth, values, drawn, bootstrap))


def _intervals(
    errors: np.ndarray, values: np.ndarray, drawn: Drawn, bootstrap: PatientBootstrap
) -> dict[str, Estimate]:
    """Return the intervals that take the place of the bootstrap's percentiles, which hold the truth too rarely."""
    if len(errors) < 2:
        return {}
    found = error_intervals(errors, bootstrap.index, LIMIT)
    if drawn.left_out is not None:  # BCa was asked for: that of the others is the bootstrap's
        return found
    for name, scale in {"r2": BELOW_ONE, "concordance": FISHER}.items():
        place = METRICS.index(name)
        draws = drawn.resampled[:, place]
        found[name] = on_scale(
            percentile(float(values[place]), draws, few=bootstrap.size), draws, bootstrap.size, scale
        )
    return found
