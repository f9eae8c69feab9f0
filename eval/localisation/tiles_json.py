"""A model's localisation metrics as plain values, for report.json."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from .froc import RATES, Froc
from .tiles import Localisation


def as_plain(found: Localisation) -> dict[str, Any]:
    """The metrics as lists, dicts, numbers and None; of the curve the corners only."""
    return {"rates": list(RATES)} | _plain(asdict(replace(found, froc=corners(found.froc))))


def corners(curve: Froc) -> Froc:
    """The same curve without the points inside its straight stretches, of which it may have a hundred thousand."""
    points = np.column_stack([curve.fps_per_slide * curve.slides, curve.sensitivity * curve.lesions])
    kept = np.ones(len(points), dtype=bool)
    if curve.lesions and len(points) > 2:
        steps = np.rint(np.diff(points, axis=0))  # counts, so that "straight" is exact
        kept[1:-1] = steps[:-1, 0] * steps[1:, 1] != steps[:-1, 1] * steps[1:, 0]
    return replace(
        curve,
        fps_per_slide=curve.fps_per_slide[kept],
        sensitivity=curve.sensitivity[kept],
        thresholds=curve.thresholds[kept],
    )


def _plain(value: Any) -> Any:
    """Arrays to lists, NaN and infinity to None."""
    if isinstance(value, dict):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(own) for own in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return None if isinstance(value, float) and not np.isfinite(value) else value
