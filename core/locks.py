"""One writer at a time: a lock on a file. The system releases it when its holder ends, however it ends."""

import os
import platform
import sys
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import IO

from .errors import UserError
from .files import open_own, reporting_a_full_disk
from .platform import HAS_LOCKS, WITHOUT_LOCKS, remove_open, share_lock, take_lock

# How long those who may share wait for one who cleans up before sharing.
PATIENCE_S = 10.0


class Lock:
    """A lock that is held from its creation until the `with` block, or the process, ends.

    The file names the holder for others to read; it stays, unless `remove`d. Nothing depends on the clock: a lock has
    no age. On a file system without locks a note says so, and `alone` stays False.

    Args:
        path: The lock's file, made if missing; its folder must be there.
        place: What is locked, for messages.
        shared: Any number of processes may hold it at once. The first is alone until it calls `share`.
        wait: Wait for another holder, after one line that names it, instead of refusing.

    Attributes:
        alone: Whether no other process can be at work; then what killed processes have left may be removed.

    Raises:
        UserError: Another process holds it (the message names the process, its machine and since when), or its file
            is a link.
        OSError: The file cannot be opened for writing.
        RunError: The disk is full.
    """

    def __init__(self, path: Path, place: str | Path, *, shared: bool = False, wait: bool = False):
        self.path, self.place = path, place
        self._file = open_own(path, "a+", encoding="utf-8")
        try:
            self._take_or_refuse(shared, wait)
            while not self._stands():
                # Its holder has removed it while we waited.
                self._file.close()
                self._file = open_own(path, "a+", encoding="utf-8")
                self._take_or_refuse(shared, wait)
            self._sign()
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                self._file.close()
                raise
            self.alone = False
            _note_missing(place)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def share(self) -> None:
        """Let others in who ask for a shared lock."""
        if self.alone:
            self.alone = False
            share_lock(self._file)

    def remove(self) -> None:
        """Remove the file. Only for a process that holds the lock alone; whoever waits for it makes a new file."""
        if self.alone:
            remove_open(self._file, self.path)

    def _stands(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _take_or_refuse(self, shared: bool, wait: bool) -> None:
        self.alone = take_lock(self._file)
        if self.alone:
            return
        if wait:
            print(f"{self.place}: waiting for {self._holder()}", file=sys.stderr, flush=True)
            self.alone = take_lock(self._file, wait=True)
            return
        end = time.monotonic() + PATIENCE_S
        while shared and time.monotonic() < end:
            if take_lock(self._file, shared=True):
                return
            time.sleep(0.05)
        raise UserError(f"{self.place}: another run is at work here ({self._holder()}). Wait, or choose another --out.")

    def _holder(self) -> str:
        self._file.seek(0)
        return self._file.read().strip() or "a process that has not yet given its name"

    def _sign(self) -> None:
        # Not through the file's buffer, which would fail once more when it is closed.
        name = f"process {os.getpid()} on {platform.node()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        with reporting_a_full_disk(self.place):
            os.ftruncate(self._file.fileno(), 0)
            os.write(self._file.fileno(), name.encode())


def try_lock(file: IO, place: str | Path) -> bool:
    """Lock an open file alone, without a holder's name; return False where another process has it.

    On a file system without locks it prints a note and returns True.
    """
    try:
        return take_lock(file)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        _note_missing(place)
        return True


@cache
def _note_missing(place: str | Path) -> None:
    """Print once that nothing is locked in a place, as its file system has no locks."""
    system = "file system" if HAS_LOCKS else "system"
    print(f"note: {place}: this {system} has no locks; see to it that no other process writes here.", file=sys.stderr)
