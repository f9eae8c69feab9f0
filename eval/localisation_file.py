"""A model's localisation figures as a file (`localisation.json`) beside its predictions table, read by the report."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import write_json
from .froc import RATES, Froc
from .intervals import Estimate
from .localisation import Localisation, SlideFigures
from .operating_points import OperatingPoint

_VERSION = 1


def write_localisation(path: Path, found: Localisation) -> None:
    """Write a model's figures as JSON, to lie beside its predictions table until the report is made."""
    write_json(path, {"version": _VERSION} | as_plain(found))


def as_plain(found: Localisation) -> dict[str, Any]:
    """The figures as lists, dicts, numbers and None; of the curve the corners only."""
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


def read_localisation(path: Path) -> Localisation:
    """Read what `write_localisation` wrote.

    Raises:
        DataError: Not such a file.
    """
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
        if told["version"] != _VERSION:
            raise DataError(
                f"{path}: version {told['version']}, but {_VERSION} is read here. Evaluate the slides again."
            )
        curve = told["froc"]
        return Localisation(
            froc=Froc(
                **{name: _array(curve[name]) for name in ("fps_per_slide", "sensitivity")},
                thresholds=np.append(np.inf, _array(curve["thresholds"])[1:]),
                score=_estimate(curve["score"]),
                sensitivities=tuple(map(_estimate, curve["sensitivities"])),
                **{name: curve[name] for name in ("slides", "lesions", "isolated")},
            ),
            figures={name: _estimate(own) for name, own in told["figures"].items()},
            point=OperatingPoint(**told["point"] | {"threshold": _number(told["point"]["threshold"])}),
            slides=tuple(
                SlideFigures(**line | {name: _estimate(line[name]) for name in ("auroc", "dice")})
                for line in told["slides"]
            ),
        )
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a localisation file ({error}). Evaluate the slides again.") from error


def _plain(value: Any) -> Any:
    """Arrays to lists, NaN and infinity to None."""
    if isinstance(value, dict):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(own) for own in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _array(values: list) -> np.ndarray:
    return np.array([_number(value) for value in values])


def _estimate(told: dict) -> Estimate:
    return Estimate(**told | {name: _number(told[name]) for name in ("value", "low", "high")})
