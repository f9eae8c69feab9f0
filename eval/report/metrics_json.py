"""Metrics as JSON can hold them: NaN becomes None, and the reason stands beside it."""

from typing import Any

import numpy as np

from ..statistics.intervals import Estimate


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """A metric with its interval, reason and method."""
    return {
        "value": number_json(estimate.value),
        "low": number_json(estimate.low),
        "high": number_json(estimate.high),
        "reason": estimate.reason,
        "method": estimate.method,
        "undefined_resamples": estimate.undefined,
    }


def number_json(value: float) -> float | None:
    """The number; None where it is not finite."""
    return float(value) if np.isfinite(value) else None
