"""The limit on what is out of distribution beside exported graphs, without torch: one distance, a limit per graph.

Mean and covariance of the features stand in an array; `clinvit.json` has its SHA-256, and of each graph the limit or
why there is none. A graph with rounded weights has a limit of its own, from validation cases.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import UserError
from ..core.files import file_sha256, refuse_changed, refuse_irregular, written_aside
from ..finetune.feature_limit import Limit

FILE = "out_of_distribution.npy"  # (1 + D, D): the mean, then what whitens
_NUMBERS = ("limit", "rate", "training_cases", "validation_patients")


def write_limits(out: Path, limits: Mapping[str, Limit | str]) -> dict[str, Any]:
    """Write the limits of the graphs of a folder; return what its facts say of them.

    Args:
        out: The folder.
        limits: By graph its limit, all of one mean and covariance, or why there is none; at least one has one.
    """
    kept = next(each for each in limits.values() if isinstance(each, Limit))
    with written_aside(out / FILE) as aside:
        np.save(aside, np.concatenate([kept.mean[None], kept.whiten]).astype(np.float64))
    graphs = {name: {"none": each} if isinstance(each, str) else _numbers(each) for name, each in limits.items()}
    return {"sha256": file_sha256(out / FILE), "graphs": graphs}


def read_limit(folder: Path, said: Mapping[str, Any] | None, graph: str) -> tuple[Limit | None, dict[str, Any]]:
    """Return the limit of a graph, and what is said of it: its numbers, or `none` with the reason.

    Args:
        folder: With the graph.
        said: What the facts say of limits; None or empty where the model has none.
        graph: Name of its file.

    Raises:
        UserError: The array is missing, damaged or replaced.
    """
    if not said or "none" in said:
        return None, dict(said or {})
    if "graphs" not in said:
        return None, {"none": "exported by a version that left the limit out: export again"}
    own = said["graphs"].get(graph, {"none": "the graph was written without one"})
    if "none" in own:
        return None, dict(own)
    path = folder / FILE
    refuse_irregular(path)
    refuse_changed(path, said["sha256"])
    try:
        # Mapped: whatever its header says, no more is read than the file has.
        values = np.array(np.load(path, mmap_mode="r", allow_pickle=False), np.float64)
        limit, rate, training, patients = (own[name] for name in _NUMBERS)
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path}: damaged ({error}). Copy the folder again.") from None
    if values.ndim != 2 or values.shape[0] != values.shape[1] + 1 or not np.isfinite(values).all():
        raise UserError(f"{path}: damaged: no mean and covariance. Copy the folder again.")
    return Limit(values[0], values[1:], float(limit), float(rate), int(training), int(patients)), dict(own)


def _numbers(limit: Limit) -> dict[str, float]:
    return dict(zip(_NUMBERS, (limit.limit, limit.rate, limit.training, limit.patients), strict=True))
