"""What teachers said of the stored views of every case, kept on the disk with checksums (MobileCLIP's reinforced data).

Vasu et al. 2024, "MobileCLIP", CVPR, section 3. `answers.bin` holds a record per case, `index.jsonl` a line per record:
which case, where, and a CRC-32 of the record. Both only grow, and a line is written after its record: a killed run
leaves at worst a tail without a line, which is cut off. Records that have changed on the disk are made anew.
"""

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..core.documents import lines_of, parse_json
from ..core.errors import DataError, RunError
from ..core.files import open_own, own_folder
from ..core.locks import Lock

RECORDS, INDEX = "answers.bin", "index.jsonl"


@dataclass(frozen=True)
class Shape:
    """The shape of a record.

    Attributes:
        views: Views of a case, those in space counted one by one.
        teachers: How many.
        labels: Labels L.
        widths: Values of each teacher's features.
    """

    views: int
    teachers: int
    labels: int
    widths: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """Return what one view of a record is."""
        logits = ("logits", "<f4", (self.teachers, self.labels))
        return np.dtype([logits, ("features", "<f2", (sum(self.widths),))])

    @property
    def size(self) -> int:
        """Return bytes of a record."""
        return self.views * self.dtype.itemsize


class Answers:
    """Records by case; processes open the file anew.

    Args:
        folder: Of the two files.
        shape: Of a record.
        places: Where the record of each row lies, bytes; -1 where the case could not be read.
    """

    def __init__(self, folder: Path, shape: Shape, places: np.ndarray):
        self.folder, self.shape, self.places = folder, shape, places
        self._records: np.ndarray | None = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_records": None}

    def rows(self) -> np.ndarray:
        """Return the rows that have a record."""
        return np.flatnonzero(self.places >= 0)

    def read(self, rows: Sequence[int], views: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return (B, K, L) float32 logits of K teachers and (B, D) float32 features of B views of rows."""
        if self._records is None:
            self._records = np.memmap(self.folder / RECORDS, np.uint8, "r").view(np.ndarray)
        found = np.empty(len(rows), self.shape.dtype)
        for place, (row, view) in enumerate(zip(rows, views, strict=True)):
            start = int(self.places[row]) + int(view) * self.shape.dtype.itemsize
            found[place] = self._records[start : start + self.shape.dtype.itemsize].view(self.shape.dtype)[0]
        return found["logits"].copy(), found["features"].astype(np.float32)


def answers_folder(place: Path, facts: Mapping[str, object]) -> Path:
    """Return the folder of answers that all these facts decide: teachers, views, pixels."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return Path(place) / f"teachers-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def make_answers(
    folder: Path, shape: Shape, keys: Mapping[int, str], rows: int, answer: Callable[[int], np.ndarray],
    progress: bool = True,
) -> tuple[Answers, dict[int, str]]:  # fmt: skip
    """Make the records that are not there yet; several processes that ask for the same wait for the first.

    Args:
        folder: See `answers_folder`.
        shape: Of a record.
        keys: Of the rows that are wanted, what identifies each case and its file.
        rows: Of the whole table.
        answer: (views,) records of `shape.dtype` of a row; raises DataError where the case cannot be read.
        progress: Whether to show a bar.

    Returns:
        The answers, and by row why a case has none.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    places, reasons = np.full(rows, -1, np.int64), {}
    try:
        own_folder(folder)
        with Lock(folder / "lock", folder, wait=True):
            known = _repaired(folder, shape.size)
            with _growing(folder) as (records, index):
                missing = [row for row, key in keys.items() if key not in known]
                for row in tqdm(missing, "teachers", unit="case", disable=None if progress else True):
                    try:
                        record = np.ascontiguousarray(answer(row), shape.dtype).tobytes()
                    except DataError as error:
                        reasons[row] = str(error)
                        continue
                    known[keys[row]] = _append(records, index, keys[row], record)
    except OSError as error:
        raise RunError(
            f"{folder}: what the teachers said cannot be written ({error.strerror or error}). Free some space or name "
            "another place with --cache; what is there is kept."
        ) from None
    for row, key in keys.items():
        places[row] = known.get(key, -1)
    return Answers(folder, shape, places), reasons


def case_key(case: str, file: Path) -> str:
    """Return what identifies a case and the content of its file cheaply, without its names."""
    try:
        status = os.stat(file)  # noqa: PTH116, which fails on no path, however long
        state = f"{status.st_size}|{status.st_mtime_ns}"
    except OSError:
        state = "elsewhere"
    return hashlib.sha256(f"{case}|{state}".encode(errors="surrogateescape")).hexdigest()


@contextmanager
def _growing(folder: Path) -> Iterator[tuple]:
    with open_own(folder / RECORDS, "ab") as records, open_own(folder / INDEX, "ab") as index:
        yield records, index


def _append(records, index, key: str, record: bytes) -> int:
    offset = records.tell()
    records.write(record)
    records.flush()
    index.write((json.dumps([key, offset, zlib.crc32(record, zlib.crc32(key.encode()))]) + "\n").encode())
    index.flush()
    return offset


def _repaired(folder: Path, size: int) -> dict[str, int]:
    """Return the places of whole and unchanged records; cut an unfinished tail."""
    known, good, damaged = {}, 0, 0
    with open_own(folder / RECORDS, "ab") as records, open_own(folder / INDEX, "ab") as index:
        there = records.tell()
        pixels = np.memmap(folder / RECORDS, np.uint8, "r") if there else np.zeros(0, np.uint8)
        with (folder / INDEX).open("rb") as lines:
            for line in lines_of(lines):
                if not line.endswith(b"\n"):
                    break
                good += len(line)
                try:
                    key, offset, checksum = parse_json(line)
                    record = pixels[offset : offset + size]
                except (ValueError, TypeError):
                    damaged += 1
                    continue
                if len(record) == size and zlib.crc32(record.data, zlib.crc32(key.encode())) == checksum:
                    known[key] = offset
                else:
                    known.pop(key, None)
                    damaged += 1
        del pixels  # some systems cut no file that is mapped
        index.truncate(good)
        # A tail that no line speaks of: records are of one size.
        records.truncate(there - there % size)
    if damaged:
        print(
            f"warning: {folder}: {damaged} answers have changed on the disk and are made anew. Test that disk.",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    return known
