"""HDF5 files that hold their own values: the format can also point at any other file of the machine."""

from pathlib import Path

import h5py

from ...core.errors import DataError


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
