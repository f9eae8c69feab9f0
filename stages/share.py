"""One prediction by several processes and nodes that see one folder: who does what, and how they know of each other.

Each process keeps a journal of its share, held by a lock from the moment it stands in its place: one that is held is of
a living process, one that is free is whole or of a dead one. Process 0 waits until the others' are there, says in its
own which it has met, and reads them when they are let go.
"""

import fcntl
import hashlib
import json
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np

from ..core.errors import RunError, UserError
from ..core.locks import WITHOUT_LOCKS
from ..engine.run_folder import rank, world_size
from .journal import Journal, journal_of, remove_journals, whole_lines

Found = TypeVar("Found")
# How long the others may take to begin, until that is told, and between two looks, seconds.
BEGIN_S, TELL_S, LOOK_S = 600.0, 10.0, 0.1


class Share(NamedTuple):
    """Process `rank`, counted from 0, `of` so many."""

    rank: int = 0
    of: int = 1

    @property
    def part(self) -> str:
        """In the name of its journal."""
        return f"-{self.rank}of{self.of}" if self.of > 1 else ""

    def rows(self, cases: int, batch: int) -> np.ndarray:
        """Every `of`-th batch of the cases, and not every `of`-th case: the last digits of a score hang on what else is
        in the batch, and the table shall be that of one process.
        """
        rows = np.arange(cases)
        return rows[rows // batch % self.of == self.rank]


ALONE = Share()


def own_share() -> Share:
    """The share of this process by what a launcher says (torchrun, srun)."""
    of = world_size()
    return Share(rank(), of) if of > 1 else ALONE


class Team:
    """The processes of a prediction, as one of them sees them.

    Args:
        out: The table that is made in the end.
        share: Of this process.
        paths: All requested files.
        batch: Files per batch.
    """

    def __init__(self, out: Path, share: Share, paths: Sequence[str], batch: int):
        self._out, self._share, self._paths, self._batch = out, share, paths, batch
        self._others: dict[int, IO[bytes]] = {}

    @property
    def first(self) -> bool:
        """Whether this is process 0, which writes."""
        return self._share.rank == 0

    def rows(self, number: int | None = None) -> list[int]:
        """Of a process, of this one if none is named."""
        share = self._share if number is None else self._share._replace(rank=number)
        return share.rows(len(self._paths), self._batch).tolist()

    def begin(self, journal: Journal) -> None:
        """Begin the journal of this process; returns when all have begun.

        Raises:
            UserError: Another prediction is at work there, a process was asked for something else, or the file system
                has no locks.
            RunError: A process does not begin.
        """
        own = [self._paths[row] for row in self.rows()]
        if self._share.of == 1:
            journal.begin(own)
            remove_journals(self._out, [journal.path])
            return
        asked = hashlib.sha256(json.dumps([self._batch, *self._paths]).encode()).hexdigest()
        if self._share.rank > 0:
            key = uuid.uuid4().hex
            journal.begin(own, partial(_hold, journal.path), asked=asked, key=key)
            self._wait_for(0, lambda: key in _head(self._journal(0)).get("met", ()) or None)
            return
        numbers = range(1, self._share.of)
        self._others = {
            number: self._wait_for(number, partial(_opened_if_held, self._journal(number))) for number in numbers
        }
        heads = {number: json.loads(file.readline()) for number, file in self._others.items()}
        for number, head in heads.items():
            if head["asked"] != asked:
                raise UserError(
                    f"{self._out}: process {number} finds other files than process 0, or has another --batch. Give all "
                    "processes the same command, in the same folder."
                )
        journal.begin(own, partial(_hold, journal.path), asked=asked, met=[head["key"] for head in heads.values()])
        # What others have left is in the journals of this team by now, as far as it is wanted.
        remove_journals(self._out, [self._journal(number) for number in range(self._share.of)])

    def gather(self) -> dict[str, dict]:
        """For process 0: wait for the shares of the others; gives their lines by path.

        Raises:
            RunError: A process has ended before its share was done.
        """
        lines: dict[str, dict] = {}
        for number, file in self._others.items():
            with file:
                if not _take(file, fcntl.LOCK_SH):
                    print(f"{self._out}: waiting for process {number}", file=sys.stderr, flush=True)
                    fcntl.flock(file, fcntl.LOCK_SH)
                file.seek(0)
                found = {line["path"]: line for line in whole_lines(file)[1:]}
            own = [self._paths[row] for row in self.rows(number)]
            missing = sum(path not in found for path in own)
            if missing:
                raise RunError(
                    f"{self._out}: process {number} has ended with {missing} of its {len(own)} cases not done. Repeat "
                    "the command with --resume: what is finished is kept."
                )
            lines |= found
        return lines

    def _journal(self, number: int) -> Path:
        return journal_of(self._out, self._share._replace(rank=number).part)

    def _wait_for(self, number: int, look: Callable[[], Found | None]) -> Found:
        """What `look` finds of a process, as soon as it does."""
        start, told = time.monotonic(), False
        while (found := look()) is None:
            waited = time.monotonic() - start
            if waited > BEGIN_S:
                raise RunError(
                    f"{self._out}: process {number} of {self._share.of} has not begun in {BEGIN_S:.0f} s. Start all "
                    "with the same command (torchrun or srun), on one file system."
                )
            if waited > TELL_S and not told:
                print(f"{self._out}: waiting for process {number} to begin", file=sys.stderr, flush=True)
                told = True
            time.sleep(LOOK_S)
        return found


def _hold(path: Path, file: IO[bytes]) -> None:
    """Lock what will stand at a path, unless a living process has what stands there or has just begun the same."""
    there = _opened_if_held(path)
    if there is not None or not _take(file, fcntl.LOCK_EX):
        raise UserError(f"{path}: another run is at work here. Wait, or choose another --out.")


def _opened_if_held(path: Path) -> IO[bytes] | None:
    """The journal at a path, if a living process holds it."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    if not _take(file, fcntl.LOCK_SH):
        return file
    file.close()
    return None


def _head(path: Path) -> dict:
    """The first line of a journal; empty if there is none."""
    try:
        with path.open("rb") as file:
            return (whole_lines(file) or [{}])[0]
    except FileNotFoundError:
        return {}


def _take(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        raise UserError(
            f"{file.name}: this file system has no locks, by which several processes know of each other. Predict with "
            "one process, or choose another --out."
        ) from None
    return True
