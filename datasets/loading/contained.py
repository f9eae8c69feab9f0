"""HDF5 files that hold their own values: the format can point at other files, and name sizes that it does not hold."""

from pathlib import Path

import h5py
import numpy as np

from ...core.errors import DataError

# Most that deflate makes of a byte, rounded up; what is stored of small arrays is not looked at.
DEFLATED, SMALL_BYTES = 1_100, 2**24
# Chunks that may lie in an array and not in its file; HDF5 takes some 6 kB for each when the array is read.
UNWRITTEN = 10_000


def refuse_inflated(path: Path, file: h5py.File, ratio: float = DEFLATED) -> None:
    """Raise if an array, or one chunk of it, is larger in memory than the bytes of the file can be.

    HDF5 stores nothing of what was never written, and inflates a chunk whole.

    Args:
        path: The file, for messages.
        file: The same, open.
        ratio: Most bytes in memory for a byte of the file.

    Raises:
        DataError: The message names the array.
    """
    most = ratio * path.stat().st_size + SMALL_BYTES
    for name, found in file.items():
        if isinstance(found, h5py.Dataset):
            shape, chunk = found.shape or (), found.chunks or ()
            size = max(float(np.prod(each, dtype=float)) for each in (shape, chunk)) * found.dtype.itemsize
            if size > most:
                raise DataError(
                    f"{path}: refused: `{name}` of {' x '.join(map(str, shape))} is {size:.3g} bytes in memory, which "
                    "this file cannot hold. Write it again."
                )
            if (count := _unwritten_chunks(found)) > UNWRITTEN:
                raise DataError(
                    f"{path}: refused: `{name}` of {' x '.join(map(str, shape))} has {count:,.0f} chunks that "
                    "were never written. Write it again."
                )


def _unwritten_chunks(found: h5py.Dataset) -> float:
    """Return how many chunks of an array were never written."""
    if not found.chunks:
        return 0
    wanted = np.prod([-(-size // chunk) for size, chunk in zip(found.shape, found.chunks, strict=True)], dtype=float)
    return float(wanted) - found.id.get_num_chunks() if wanted > UNWRITTEN else 0


def refuse_pointers(path: Path, file: h5py.File) -> None:
    """Raise if something in an open file is a link, or has its values in another file (external or virtual storage).

    Raises:
        DataError: The message names what it is.
    """
    for name in file:
        link = file.get(name, getlink=True)
        found = file[name] if isinstance(link, h5py.HardLink) else None
        if found is None or (isinstance(found, h5py.Dataset) and (found.external or found.is_virtual)):
            raise DataError(
                f"{path}: refused: `{name}` points at another place instead of holding values. Copy them in."
            )
