"""What a caller of the Python API gives as cases: paths as on the command line, or images in memory."""

import os
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import DataError, UserError
from ..datasets.manifest.tables import Asked, truth_width
from .requested import requested_cases


def given_cases(inputs: Any, asked: Asked, unit: str, split: str | None = None) -> tuple[pd.DataFrame, np.ndarray]:
    """Return cases, and (N, T) truth, NaN where unknown.

    Args:
        inputs: A path, glob or manifest, an array, PIL image or tensor, or several paths, or several images.
        asked: Labels or targets of the model.
        unit: What a case is, as of `datasets.manifest.contents`.
        split: Only the cases of this split of a manifest.

    Returns:
        The table `id, path, patient, split`; of images in memory also `image`, their ids are `array-0`, `array-1`, ...

    Raises:
        UserError: Paths and images mixed, or something else.
        DataError: No case of the split.
    """
    images = _images(inputs)
    if images is None:
        cases, truth = requested_cases(as_texts(inputs), asked, unit)
    else:
        ids = [f"array-{number}" for number in range(len(images))]
        cases = pd.DataFrame({"id": ids, "path": "", "patient": ids, "split": "new"})
        cases["image"] = pd.Series(images, dtype=object)
        truth = np.full((len(ids), truth_width(asked)), np.nan)
    if split is None:
        return cases, truth
    kept = (cases["split"] == split).to_numpy()
    if not kept.any():
        known = ", ".join(dict.fromkeys(cases["split"]))
        raise DataError(f"no case in the split {split!r}; these are {known}. A manifest says the splits of its cases.")
    return cases[kept].reset_index(drop=True), truth[kept]


def as_texts(paths: Any) -> list[str]:
    """Return one path or several as texts."""
    return [os.fspath(paths)] if isinstance(paths, str | os.PathLike) else [os.fspath(path) for path in paths]


def _images(inputs: Any) -> list | None:
    """Images in memory as a list; None if paths are given."""
    if isinstance(inputs, str | os.PathLike):
        return None
    if _is_image(inputs):
        return list(inputs) if getattr(inputs, "ndim", 2) == 4 else [inputs]
    try:
        inputs = list(inputs)
    except TypeError:
        kind = type(inputs).__name__
        raise UserError(f"a {kind} is no input: give paths, arrays, PIL images or tensors.") from None
    are_images = {_is_image(each) for each in inputs}
    if len(are_images) == 2:
        raise UserError("paths and images in memory are mixed: give one kind at a time.")
    return inputs if are_images == {True} else None


def _is_image(value: Any) -> bool:
    """Whether it is an array, a PIL image or a tensor, and no array of paths; none of their libraries is loaded."""
    kind = getattr(getattr(value, "dtype", None), "kind", "u")
    return kind not in "OUST" and (hasattr(value, "__array__") or hasattr(value, "__array_interface__"))
