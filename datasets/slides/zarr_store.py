"""Where the files of a Zarr lie: a folder, or a zip file of it; each read by name, within limits.

Whether something is a Zarr is decided by what it holds: metadata of a group or an array at its top.
"""

import os
import stat
import zipfile
from pathlib import Path, PurePosixPath

from ...core.documents import JSON_BYTES, parse_json, regular_bytes
from ...core.errors import DataError
from ..kinds import ZIPPED_ZARR, file_kind, is_zarr_folder

V3 = "zarr.json"  # of version 3; of version 2 there are .zgroup, .zattrs and .zarray
_ADVICE = "Copy or convert it again."


def is_zarr(path: Path) -> bool:
    """Return whether a path is a Zarr: a folder of one, or a zip file that begins with its metadata."""
    if os.path.isdir(path):  # noqa: PTH112, which fails on no path, however long
        return is_zarr_folder(path)
    try:
        return file_kind(path) == ZIPPED_ZARR
    except DataError:
        return False


class Store:
    """The files of a Zarr, by their names relative to its top.

    Args:
        path: Folder or zip file.

    Raises:
        DataError: A zip file that cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._packed = not path.is_dir()
        self._top = self._opened().namelist()[0].rpartition("/")[0] if self._packed else ""

    def close(self) -> None:
        """Let go of the zip file."""
        if self._zip is not None:
            self._zip.close()
        self._zip = None

    def _opened(self) -> zipfile.ZipFile:
        if self._zip is None or self._process != os.getpid():  # a fork shares the place in the file with its parent
            try:
                self._zip, self._process = zipfile.ZipFile(self.path), os.getpid()
            except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
                raise DataError(f"{self.path}: no readable zip file ({error}). {_ADVICE}") from None
        return self._zip

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None where there is none.

        Raises:
            DataError: A name that leads out of the Zarr, or something that is no file.
        """
        if self._packed:
            member = self._member(name)
            return None if member is None else member.file_size
        place = self._place(name)
        try:
            status = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: {name} cannot be opened ({error}).") from None
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{self.path}: refused: {name} is a folder, pipe or device, not a regular file.")
        return status.st_size

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return bytes of a file that is there.

        Raises:
            DataError: They cannot be read, or there are fewer.
        """
        try:
            if self._packed:
                with self._opened().open(self._member(name)) as file:
                    file.seek(start)
                    found = file.read(length)
            else:
                with self._place(name).open("rb", buffering=0) as file:
                    file.seek(start)
                    found = b"".join(iter(lambda: file.read(length - file.tell() + start), b""))
        except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise DataError(f"{self.path}: {name} cannot be read ({error}). {_ADVICE}") from None
        if len(found) != length:
            raise DataError(f"{self.path}: {name} is cut off. {_ADVICE}")
        return found

    def json(self, name: str) -> dict | None:
        """Return the JSON object in a file; None where there is no file.

        Raises:
            DataError: It is damaged, too large or too deep, or no object.
        """
        size = self.size(name)
        if size is None:
            return None
        try:
            if size > JSON_BYTES:
                raise ValueError(f"larger than {JSON_BYTES / 1e6:g} MB")
            text = self.read(name, 0, size) if self._packed else regular_bytes(self._place(name), JSON_BYTES)
            found = parse_json(text)
            if not isinstance(found, dict):
                raise ValueError("no mapping of keys to values")
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            reason = " ".join(str(error).split())[:150]
            raise DataError(f"{self.path}: {name} is not readable JSON ({reason}). {_ADVICE}") from None
        return found

    def _member(self, name: str) -> zipfile.ZipInfo | None:
        try:
            return self._opened().getinfo(f"{self._top}/{name}".lstrip("/"))
        except KeyError:
            return None

    def _place(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
            raise DataError(f"{self.path}: refused: {name!r} leads out of it.")
        return self.path.joinpath(*parts)
