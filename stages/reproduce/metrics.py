"""The metrics of a row on disk: `metrics.json` of a step, and what is measured of a whole row."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...core.documents import read_json
from ...core.errors import UserError
from ...core.files import write_json
from ...eval.statistics.intervals import Estimate

FILE = "metrics.json"
REMEDY = "Remove the folder to measure anew."


@dataclass(frozen=True)
class Measured:
    """What was measured of a row.

    Attributes:
        metrics: By metric key; a metric that no step measured is missing.
        cases, patients: Scored test cases and their patients; 0 where there are no predictions.
        failed: Test cases that failed.
        requested: All test cases, scored and failed.
        ids: `ids_fingerprint` of these.
        baselines: By the key of an accuracy, that of always saying the most frequent class.
    """

    metrics: dict[str, Estimate]
    cases: int = 0
    patients: int = 0
    failed: int = 0
    requested: int = 0
    ids: str = ""
    baselines: dict[str, float] = field(default_factory=dict)


def ids_fingerprint(ids: Iterable[str]) -> str:
    """Return the SHA-256 of ids in sorted order, one a line: which cases these are."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def write_metrics(folder: Path, metrics: Mapping[str, Estimate | float]) -> None:
    """Write `metrics.json`; a number becomes an estimate without interval."""
    write_json(folder / FILE, {key: plain(value) for key, value in metrics.items()})


def read_metrics(folder: Path) -> dict[str, Estimate]:
    """Return the metrics that a step wrote; none where there is no such file."""
    path = folder / FILE
    try:
        return {key: estimate(value) for key, value in read_json(path, remedy=REMEDY).items()}
    except FileNotFoundError:
        return {}
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({error}). {REMEDY}") from None


def plain(value: Estimate | float) -> dict:
    """Return an estimate for JSON: what is undefined is None."""
    fields = asdict(value if isinstance(value, Estimate) else Estimate(float(value), reason="measured once"))
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in fields.items()}


def estimate(fields: Mapping) -> Estimate:
    """Return the estimate that `plain` made a dict of."""
    numbers = {name: math.nan if fields[name] is None else fields[name] for name in ("value", "low", "high")}
    return Estimate(**{**fields, **numbers})
