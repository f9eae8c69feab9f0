"""The shards that are on this machine: fetched once for all its processes, up to a bound; the longest unused go."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ....core.files import open_own, own_folder, remove_leftovers_of, written_aside
from ....core.platform import WITHOUT_LOCKS, remove_unless_open, take_lock
from .storage import Storage

SUFFIX = ".shard"


class LocalShards:
    """A folder of whole shards, shared by all processes of a machine.

    Args:
        storage: Where shards come from.
        remote: Their folder there.
        folder: The folder here; shards of other data may lie in it and count.
        bound: Bytes that it may hold.
    """

    def __init__(self, storage: Storage, remote: str, folder: Path, bound: int):
        self.storage, self.remote, self.folder, self.bound = storage, remote, folder, bound
        own_folder(folder)

    def get(self, name: str, size: int) -> Path:
        """Return the file of a shard; it is fetched and checked if it is not here.

        Raises:
            RunError: It cannot be fetched, or what comes is not what was packed.
        """
        file = self.folder / (name + SUFFIX)
        if not _used(file):
            with _alone(self.folder / f"{name}.lock"):
                if not _used(file):
                    self._make_room(size)
                    remove_leftovers_of(file)
                    with written_aside(file) as aside:
                        self.storage.fetch(f"{self.remote}/{name}", aside, lambda got: _compare(got, name, size))
        return file

    def drop(self, name: str) -> None:
        """Forget a shard that has been damaged here."""
        (self.folder / (name + SUFFIX)).unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Remove the shards that were not used for longest. Who has one open may read it to the end."""
        states = []
        for file in self.folder.glob(f"*{SUFFIX}"):
            try:
                state = file.stat()
            except FileNotFoundError:  # another process makes room too
                continue
            states.append((state.st_mtime_ns, state.st_size, file))
        held = sum(bytes_ for _, bytes_, _ in states)
        for _, bytes_, file in sorted(states):
            if held + size <= self.bound:
                return
            if remove_unless_open(file):
                held -= bytes_


def _used(file: Path) -> bool:
    """Return whether the file is there; it then counts as used just now."""
    try:
        os.utime(file)
    except FileNotFoundError:
        return False
    return True


def _compare(file: Path, name: str, size: int) -> None:
    found = file.stat().st_size
    if found != size:
        raise OSError(f"damaged: {found} of {size} bytes; remove it there and repeat `clinvit prepare --shards`")
    with file.open("rb") as content:
        if hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest() != name:
            raise OSError("damaged: its checksum is another; remove it there and repeat `clinvit prepare --shards`")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process or thread work at a time.

    Without locks two may fetch the same, and the checks tell what is whole.
    """
    with open_own(path, "a") as file:
        try:
            take_lock(file, wait=True)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
        yield
