"""All writing of files: whole or not at all (written aside, flushed, renamed), and never through a link.

Names of locks, journals and caches can be foretold: in a folder where others write too, or in a data set of theirs,
such a name may be a link to another file of ours. Nothing else in the package opens a file for writing.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .errors import RunError, UserError
from .platform import open_unlinked

LOCK = ".lock"  # of a folder
MOST_TENSORS = 50_000  # of a checkpoint; each costs far more time and memory than its bytes in the file
# What a file is called until it is whole; a killed process leaves it behind.
ASIDE = re.compile(r"\..+\.aside-\w{8}(\.\w+)?")


@contextlib.contextmanager
def written_aside(path: str | os.PathLike, private: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` if the block ends well, else remove it.

    Args:
        path: The file to (re)place; a link is replaced, not followed. Missing folders are made.
        private: Only the owner may ever read it (0600), whatever the umask allows.

    Yields:
        A path in the same folder with the same suffix, so that writers that look at the suffix work.

    Raises:
        RunError: The disk is full. What was there before is still there.
    """
    path = Path(path)
    with reporting_a_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside, mode = _made_aside(path, 0o600 if private else 0o666)
    try:
        with reporting_a_full_disk(path):
            yield aside
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            aside.chmod(mode)
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def reporting_a_full_disk(path: str | os.PathLike) -> Iterator[None]:
    """Turn the errors by which libraries report a full disk into one line.

    Raises:
        RunError: The disk is full, or the quota is used up.
    """
    try:
        yield
    except Exception as error:
        full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        named = (number for number in full if os.strerror(number) in str(error))
        number = next(named, getattr(error, "errno", None))
        if number not in full:
            raise
        raise RunError(
            f"{path}: cannot be written ({os.strerror(number)}). Free some space and repeat the command: "
            "what is finished is kept."
        ) from error


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can: a renamed file may else be lost with the power.

    Raises:
        RunError: The disk is full.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with reporting_a_full_disk(folder):
            os.fsync(handle)
    finally:
        os.close(handle)


def require_space(path: Path, size_bytes: int) -> None:
    """Check that a file fits before a library writes it that does not survive a full disk (HDF5 ends the process).

    Raises:
        RunError: It does not fit.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with reporting_a_full_disk(path):
        if shutil.disk_usage(path.parent).free < size_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files that killed processes have left in a folder and below.

    Folders with a lock of their own are left out. Only for the process that holds the folder's lock alone.
    """
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not Path(place, name, LOCK).exists()]
        for name in filter(ASIDE.fullmatch, names):
            Path(place, name).unlink(missing_ok=True)


def remove_leftovers_of(path: Path) -> None:
    """Remove unfinished files of one file, and of those beside it that share its stem (`p.csv`, `p.model.json`)."""
    for left in path.parent.iterdir():
        if left.name.startswith(f".{path.stem[:80]}.") and ASIDE.fullmatch(left.name):
            left.unlink(missing_ok=True)


def open_own(
    path: str | os.PathLike, mode: str, *, private: bool = False, buffering: int = -1, encoding: str | None = None
) -> IO:
    """Open a file that this package itself makes and changes in place: a lock, a journal, a cache.

    Args:
        path: The file; made if missing, unless `mode` is `r+b`.
        mode: `a`, `ab`, `a+` or `r+b`. Nothing is cut off before it is known that the file is ours.
        private: Made for the owner alone (0600), else as the umask allows.
        buffering: As of `open`.
        encoding: Of text.

    Raises:
        UserError: It is a link, has a second name (a hard link), or is no regular file.
    """
    assert "w" not in mode

    def opener(name: str, flags: int) -> int:
        handle = open_unlinked(name, flags, 0o600 if private else 0o666)
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:  # 0: another process has just removed it
            os.close(handle)
            raise _foreign(path)
        return handle

    try:
        file = open(path, mode, buffering, encoding, opener=opener)  # noqa: SIM115  (the caller closes it)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise _foreign(path) from None
        raise
    if private:
        Path(path).chmod(0o600)  # from before, too
    return file


def own_folder(path: str | os.PathLike) -> Path:
    """Make a folder within one of ours, and those above it; return it.

    Raises:
        UserError: It is a link, which would lead what is written to another place.
    """
    path = Path(path)
    if path.is_symlink():
        raise _foreign(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def refuse_foreign(path: str | os.PathLike) -> None:
    """Refuse a file that a library is about to overwrite by its name, if that is a link or has a second name.

    Raises:
        UserError: It is refused.
    """
    if os.path.lexists(path):
        state = os.lstat(path)
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
            raise _foreign(path)


def copy_folder(source: Path, to: Path) -> None:
    """Copy the regular files of a folder, such as a model's, into another, each atomically."""
    for file in sorted(path for path in source.iterdir() if path.is_file()):
        with written_aside(own_folder(to) / file.name) as aside:
            shutil.copyfile(file, aside)


def _foreign(path: str | os.PathLike) -> UserError:
    return UserError(
        f"{path}: a link, or no file of its own: writing there would change another file. Look who made it, and "
        "remove it."
    )


def write_text(path: str | os.PathLike, text: str, private: bool = False) -> None:
    """Write `text` (UTF-8) to `path`, atomically; `private`, for the owner alone."""
    with written_aside(path, private) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike, value: Any, private: bool = False) -> None:
    """Write `value` as readable JSON to `path`, as `write_text`. NaN and infinity are refused: write None."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", private)


def refuse_irregular(path: str | os.PathLike, kind: type[UserError] = UserError) -> None:
    """Refuse a path that is missing or is no regular file: a folder, a pipe, a device.

    Raises:
        UserError: The path is refused; a subclass of it where `kind` names one.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  (whatever the name is made of)
    except FileNotFoundError:
        raise kind(f"{path}: no such file.") from None
    except (OSError, ValueError) as error:
        raise kind(f"{path}: cannot be opened ({getattr(error, 'strerror', None) or error}).") from None
    if not stat.S_ISREG(mode):
        raise kind(f"{path}: a folder, pipe or device, not a regular file.")


def refuse_changed(path: str | os.PathLike, sha256: object) -> None:
    """Refuse a file that is not the one whose SHA-256 was stored; do nothing where none was stored (None).

    Raises:
        UserError: Its SHA-256 is another.
    """
    if sha256 is not None and file_sha256(path) != sha256:
        raise UserError(
            f"{path}: damaged or replaced: its SHA-256 is not the one in the card beside it. Copy the folder again."
        )


def wrong_checksum(path: Path, checksums: bool = True) -> str:
    """Return what is wrong with a zip archive by its own checksums; empty if nothing, or if it is no archive.

    PyTorch's files are such archives, but PyTorch does not check them.

    Args:
        path: The file.
        checksums: Whether to read its parts; else only its table of contents is looked at.
    """
    try:
        if not zipfile.is_zipfile(path):
            return ""
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) > MOST_TENSORS:
                return f"it has {len(archive.infolist()):,} parts, more than any network has tensors"
            # Such an entry PyTorch takes for a folder, and its tensor for whatever was in memory.
            if folders := [entry.filename for entry in archive.infolist() if entry.external_attr & 0x10]:
                return f"{folders[0]} is declared a folder"
            # PyTorch stores; it would read packed entries too, which may be a thousand times larger than the file.
            if packed := [e.filename for e in archive.infolist() if e.compress_type != zipfile.ZIP_STORED]:
                return f"{packed[0]} is compressed, which no file of PyTorch's is"
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                return "its entries are larger than the file"
            part = archive.testzip() if checksums else None
        return f"the checksum of {part} is wrong" if part is not None else ""
    except Exception as error:  # a damaged archive lets anything fail
        return " ".join(str(error).split())[:120] or type(error).__name__


def file_sha256(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _made_aside(path: Path, mode: int) -> tuple[Path, int]:
    """Make an empty file of the owner's alone beside a path; return it and the rights that it is to have in the end.

    The umask is seen in what the system makes of `mode`: to ask for it is to change it, for all threads.
    """
    while True:
        aside = path.with_name(f".{path.stem[:80]}.aside-{secrets.token_hex(4)}{path.suffix}")
        try:
            handle = open_unlinked(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            continue
        rights = stat.S_IMODE(os.fstat(handle).st_mode)
        os.close(handle)
        aside.chmod(0o600)
        return aside, rights
