"""Features of a slide in a `.pt` file, as CLAM writes them: one tensor and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.errors import DataError
from ...core.files import refuse_irregular
from ..loading.limits import FEATURES_GB

_ADVICE = "Write the features as one tensor (tiles, values), or as HDF5."


class TensorFile:
    """Features of a slide in a tensor; the interface of `hdf5.FeatureFile`.

    Attributes:
        path: The file.
        count: Number of tiles.
        dim: Values per tile.
        coords: None: such a file does not say where its tiles lie.
        attributes: Empty.
    """

    coords = tile_level0_px = None

    def __init__(self, path: Path):
        self.path = path
        self.attributes: dict[str, Any] = {}
        self._values = _tensor(path)
        self.count, self.dim = self._values.shape

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def read(self, indices: np.ndarray | None = None) -> np.ndarray:
        """Read rows.

        Args:
            indices: (n,) int64 rows in any order, repeats allowed; None for all.

        Returns:
            (n, dim) float16 or float32, as stored (others become float32).

        Raises:
            DataError: They are NaN or infinite.
        """
        values = self._values if indices is None else self._values[torch.as_tensor(indices, dtype=torch.int64)]
        out = values.numpy() if values.dtype == torch.float16 else values.float().numpy()
        bad = ~np.isfinite(out).all(axis=1)
        if bad.any():
            raise DataError(f"{self.path}: features of {int(bad.sum())} tiles are NaN or infinite. Extract them again.")
        return out

    def close(self) -> None:
        """Let go of the values."""
        self._values = torch.empty(0, 0)


def tensor_head(path: Path) -> tuple[int, int, dict]:
    """Return what `hdf5.features_head` does of a tensor.

    PyTorch is loaded with this function: a process that may read files and nothing else could not load it later.
    """
    with TensorFile(path) as file:
        return file.count, file.dim, file.attributes


def _tensor(path: Path) -> Tensor:
    """Return the (N, D) tensor in a file; nothing in it is executed.

    Raises:
        DataError: No such file, no tensor, another shape, or too large.
    """
    refuse_irregular(path, DataError)
    try:
        # Weights only: whatever else a pickle could hold is refused. Mapped: nothing is read before it is looked at.
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise DataError(
            f"{path}: no tensor that can be read ({type(error).__name__}): only tensors are read of `.pt` files, no "
            f"arrays and objects of other libraries. {_ADVICE}"
        ) from None
    if not isinstance(held, Tensor) or not held.is_floating_point() or held.is_sparse:
        raise DataError(f"{path}: holds {type(held).__name__}, not one tensor of numbers. {_ADVICE}")
    if held.ndim == 1 or (held.ndim == 3 and len(held) == 1):
        held = held.reshape(-1, held.shape[-1])
    if held.ndim != 2 or not held.numel():
        raise DataError(f"{path}: a tensor {tuple(held.shape)}. {_ADVICE}")
    size = held.numel() * held.element_size()
    if FEATURES_GB.exceeded(held.numel() * 8 / 1e9) or size > held.untyped_storage().nbytes():
        raise DataError(f"{path}: a tensor {tuple(held.shape)} is too large ({FEATURES_GB.text()}). {_ADVICE}")
    return held
