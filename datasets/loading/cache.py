"""A cache of decoded images or clips: every file is read and shrunk once, later epochs cut crops from a memory map.

`pixels.u8` holds the images one after the other, `index.jsonl` one line per file that was read. Both only grow,
and a line is written after its pixels: a killed run leaves at worst a tail without a line, which is cut off. A line
ends in a checksum of itself and its pixels, a 1 where colours were lost, and the region of a clip that is cropped.
Every process compares the checksum when it first takes an image; one that has changed on the disk is read from its file
again.
"""

import hashlib
import json
import math
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...core.counter import Counter
from ...core.documents import lines_of, parse_json
from ...core.errors import DataError, RunError
from ...core.files import open_own, own_folder, write_text
from ...core.locks import Lock
from ..images.colour import colour_note
from ..settings import Data
from ..video.region import ClipRead, Region
from .isolation import isolated
from .readers import CroppingReader, Reader

LOOKS = 20  # files that are looked at for colours where there is no cache


@dataclass(frozen=True)
class Entry:
    """Where an image or clip lies in `pixels.u8`, or why it does not.

    Attributes:
        offset: Of its first byte.
        shape: Of its pixels.
        reason: Why it could not be read; empty if it could.
        checksum: CRC-32 of its line and its pixels.
        lost_colour: Whether it was in colour and was read as grey.
        region: Of a clip that is read cropped, which part it is.
    """

    offset: int
    shape: tuple[int, ...]
    reason: str = ""
    checksum: int = 0
    lost_colour: bool = False
    region: Region | None = None

    @property
    def size(self) -> int:
        """Return bytes."""
        return math.prod(self.shape)


class Tried(Protocol):
    """Rows that have been tried: caches, files, shards, slides, bags."""

    def reasons(self) -> list[str]:
        """Return N texts: why a row cannot be read, empty where it can."""


class Pixels(Tried, Protocol):
    """Pixels by row: what caches, files, shards, one's own items and tiles of slides have in common."""

    apart: str

    def __getitem__(self, row: int, /) -> Any:
        """Return the pixels of a row, or what opens them."""


class PixelCache:
    """uint8 pixels of N files, in the order asked for. Worker processes open the file anew: no pixel is sent.

    Attributes:
        apart: See `Files`.
        lost_colour: How many of the files were in colour and were read as grey.

    Args:
        folder: Holds `pixels.u8` and `index.jsonl`.
        entries: N entries.
        keys: Their N keys.
        files: The N files.
        reader: Reads a file again whose pixels have changed.
    """

    apart = ""

    def __init__(
        self, folder: Path, entries: Sequence[Entry], keys: Sequence[str], files: Sequence[Path], reader: Reader
    ):
        self.folder, self.reader = folder, reader
        # Offset, what the checksum starts from, checksum, up to four sides: a list of hundreds of thousands of tuples
        # would be sent to every worker. Keys stay on the disk.
        self.places = np.zeros((len(entries), 7), np.int64)
        for place, key, entry in zip(self.places, keys, entries):
            place[: 3 + len(entry.shape)] = entry.offset, _start(key, entry), entry.checksum, *entry.shape
        # An array, for the same reason.
        self._files = np.array([os.fsencode(file) for file in files], bytes)
        self._reasons = {row: entry.reason for row, entry in enumerate(entries) if entry.reason}
        self.lost_colour = sum(entry.lost_colour for entry in entries)
        self._regions = [entry.region for entry in entries] if any(entry.region for entry in entries) else []
        self._pixels: np.ndarray | None = None
        self._seen = np.zeros(len(entries), bool)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return uint8 view of file `row`, of the shape that the reader gave; nothing is copied or decoded.

        Raises:
            DataError: The file could not be read.
            RunError: Its cached pixels have changed on the disk, and it is not there any more as it was.
        """
        if row in self._reasons:
            raise DataError(self._reasons[row])
        if self._pixels is None:
            self._pixels = np.memmap(self.folder / "pixels.u8", np.uint8, "r").view(np.ndarray)
        offset, start, expected, *sides = self.places[row].tolist()
        shape = [side for side in sides if side]
        pixels = self._pixels[offset : offset + math.prod(shape)].reshape(shape)
        if not self._seen[row]:
            if zlib.crc32(pixels.data, start) != expected:
                return self._read_again(row)
            self._seen[row] = True
        return pixels

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_pixels": None, "_seen": np.zeros(0, bool)}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._seen = np.zeros(len(self), bool)

    def reasons(self) -> list[str]:
        """Return N texts: why a file could not be read, empty where it could."""
        return [self._reasons.get(row, "") for row in range(len(self))]

    def colour_note(self) -> str:
        """Say how many files were in colour and were read as grey; empty if none was."""
        return colour_note(self.lost_colour, len(self))

    def regions(self) -> list[Region | None]:
        """Return of N clips which part is read, None where they are read whole unasked or cannot be read."""
        return self._regions or [None] * len(self)

    def sizes(self) -> np.ndarray:
        """Return (N,) bytes of each file's pixels."""
        return np.maximum(self.places[:, 3:], 1).prod(axis=1)

    def _read_again(self, row: int) -> np.ndarray:
        """Read the pixels of a row from the file itself, and put them back in the cache."""
        offset, start, expected = self.places[row, :3].tolist()
        damaged = f"{self.folder / 'pixels.u8'}: the pixels at byte {offset} have changed on the disk"
        key = next((key for key, entry, _ in _lines(self.folder) if entry.offset == offset), "")
        file = Path(os.fsdecode(self._files[row]))
        if _key(file, self.reader) != key:
            raise RunError(f"{damaged}, and {file} is not there as it was. Repeat the command, which reads it anew.")
        pixels = np.ascontiguousarray(self.reader.read(file))
        if zlib.crc32(pixels.data, start) != expected:
            raise RunError(f"{damaged}, and {file} reads otherwise now. Remove {self.folder} and repeat the command.")
        print(f"warning: {damaged}; {file} was read again. Test that disk.", file=sys.stderr, flush=True)
        if os.access(self.folder / "pixels.u8", os.W_OK):
            with open_own(self.folder / "pixels.u8", "r+b") as data:
                data.seek(offset)
                data.write(pixels.data)
        return pixels


class Files:
    """The same without a cache: files are opened when they are asked for, and what fails fails then.

    Where clips are cropped, a first look at each finds which part of it is read (`regions`).

    Attributes:
        apart: What a process of its own should make of a row, as its decoder may die over it: "pixels" or "view",
            whichever is fewer bytes to send; "" where nothing is decoded.
    """

    apart = "view"

    def __init__(self, files: Sequence[Path], reader: Reader, workers: int = 1):
        self.files, self.reader, self.workers = list(files), reader, workers

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int):
        """Return pixels of file `row`, or a clip that decodes the frames it is asked for."""
        return self.reader.open(self.files[row])

    def file(self, row: int) -> Path:
        """Return the file of a row."""
        return self.files[row]

    def reasons(self) -> list[str]:
        """Return N empty texts: nothing has been tried yet."""
        return [""] * len(self)

    def regions(self) -> list[Region | None]:
        """Return of N clips which part is read, as `PixelCache.regions`; each is looked at."""
        if not isinstance(self.reader, CroppingReader) or self.reader.roi == "none":
            return [None] * len(self)
        found = isolated(self.reader.region, self.files, self.workers)
        return [None if isinstance(region, DataError) else region for region in found]

    def colour_note(self) -> str:
        """Say how many of a few files, spread evenly, are in colour and are read as grey; empty if none is."""
        if self.reader.channels != 1:
            return ""
        sample = np.unique(np.linspace(0, len(self) - 1, min(LOOKS, len(self))).astype(int))
        looks = isolated(self.reader.loses_colour, [self.files[row] for row in sample])
        lost_colour = [look for look in looks if not isinstance(look, DataError)]
        return colour_note(sum(lost_colour), len(lost_colour))


@contextmanager
def opened(source: Pixels, row: int) -> Iterator:
    """Open the pixels of a row; a file that was opened for them is closed at the end."""
    pixels = source[row]
    try:
        yield pixels
    finally:
        if not isinstance(pixels, np.ndarray):
            pixels.close()


@dataclass(frozen=True)
class Sample:
    """A sample to be made: a view of a row of a source, by its seed or number; as text, its file."""

    row: int
    seed: int
    file: str | Path = ""

    def __str__(self) -> str:
        return str(self.file)


@dataclass(frozen=True)
class SampleMaker:
    """Makes samples of the rows of a source, or gives their pixels; can be sent to another process."""

    source: Pixels
    view: Callable | None

    @property
    def writes(self) -> bool:
        """Return whether the reader of the files says that it writes some (`isolated`)."""
        return bool(getattr(getattr(self.source, "reader", None), "writes", False))

    def __call__(self, sample: Sample) -> np.ndarray | dict[str, np.ndarray]:
        """Return what the view gives, or the pixels.

        Raises:
            DataError: The file cannot be read.
        """
        with opened(self.source, sample.row) as pixels:
            return pixels if self.view is None else self.view(pixels, sample.seed)


def open_pixels(
    files: Sequence[Path], data: Data, folder: Path, reader: Reader, workers: int = 1
) -> PixelCache | Files:  # fmt: skip
    """Open the pixels of files as a recipe wants them: from a cache that is built first, or from the files each time.

    Args:
        files: N files, in the order of the result.
        data: The recipe's words on data.
        folder: Where caches live.
        reader: Gives the pixels of a file.
        workers: Reading processes while the cache is built.
    """
    return build_cache(files, folder, reader, workers) if data.cache else Files(files, reader, workers)


def build_cache(
    files: Sequence[Path], folder: Path, reader: Reader, workers: int = 1, progress: bool = True
) -> PixelCache:
    """Read what is not cached yet and open the cache for these files.

    Args:
        files: N files, in the order of the result.
        folder: Where caches live; one sub-folder per reader.
        reader: Gives the pixels of a file.
        workers: Reading processes. One that dies over a file costs that file, not the run.
        progress: Show a bar on a terminal.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    folder = Path(folder) / reader.name
    keys = [_key(file, reader) for file in files]
    try:
        own_folder(folder)
        with Lock(folder / "lock", folder, wait=True):
            known = _repair(folder)
            todo = [(key, file) for key, file in dict(zip(keys, files)).items() if key not in known]
            if todo:
                known |= _append(folder, todo, reader, workers, progress)
    except OSError as error:
        raise RunError(
            f"{folder}: the image cache cannot be written ({error.strerror or error}). Free some space or name "
            "another place with --cache; what is cached already is kept."
        ) from None
    return PixelCache(folder, [known[key] for key in keys], keys, files, reader)


def _key(file: Path, reader: Reader) -> str:
    """Hash what identifies the pixels of a file or of a folder of frames cheaply.

    These are its path, sizes and times of change, and what its reader knows of it. Names of files may be those of
    people, and caches are copied.
    """
    try:
        # A frame that is replaced in place leaves the size and time of its folder as they were.
        state = _frames_state(file) if stat.S_ISDIR(file.stat().st_mode) else _state(file)
    except OSError:
        state = "missing"
    return hashlib.sha256(os.fsencode(f"{file.resolve()}|{state}{reader.facts_of(file)}")).hexdigest()


def _frames_state(folder: Path) -> str:
    with os.scandir(folder) as entries:
        states = sorted((entry.name, _state(entry)) for entry in entries)
    return hashlib.sha256(repr(states).encode()).hexdigest()


def _state(file: Path | os.DirEntry) -> str:
    """Return size and time of change; a link that leads nowhere has neither."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return "missing"
    return f"{status.st_size}|{status.st_mtime_ns}"


def _start(key: str, entry: Entry) -> int:
    """Return what the checksum of an entry's pixels starts from: a changed line is noticed like a changed pixel."""
    return zlib.crc32(json.dumps([key, entry.offset, entry.shape]).encode())


def _lines(folder: Path) -> Iterator[tuple[str, Entry, int]]:
    """Read the lines of the index that can be: key, entry, and where the line ends. A checksum may be missing (-1)."""
    end = 0
    with (folder / "index.jsonl").open("rb") as lines:
        for line in lines_of(lines):
            end += len(line)
            if not line.endswith(b"\n"):
                return
            try:
                key, offset, shape, *rest = parse_json(line)
                values: list = [*rest, *[-1, 0][len(rest) :]]
                region = Region(*values[2]) if values[2:] else None
                yield key, Entry(offset, tuple(shape), "", values[0], values[1] == 1, region), end
            except (ValueError, TypeError):
                continue


def _repair(folder: Path) -> dict[str, Entry]:
    """Read the index; cut an unfinished last line, and pixels that no line speaks of. A damaged line is passed over."""
    index, data = folder / "index.jsonl", folder / "pixels.u8"
    known, good, end = {}, 0, 0
    with open_own(index, "ab") as lines, open_own(data, "ab") as pixels:
        size = os.fstat(pixels.fileno()).st_size
        for key, entry, line_end in _lines(folder):
            if entry.offset + entry.size <= size:
                known[key] = entry
                good, end = line_end, max(end, entry.offset + entry.size)
        lines.truncate(good)
        pixels.truncate(end)
    if unsummed := [key for key, entry in known.items() if entry.checksum < 0]:
        known |= _summed(folder, {key: known[key] for key in unsummed})
        write_text(index, "".join(_line(key, entry) for key, entry in known.items()))
    return known


def _summed(folder: Path, entries: dict[str, Entry]) -> dict[str, Entry]:
    """Return entries of a cache from before there were checksums, with those of the pixels as they are now."""
    print(f"{folder}: {len(entries)} entries of an older version get their checksums now.", file=sys.stderr, flush=True)
    pixels = np.memmap(folder / "pixels.u8", np.uint8, "r").view(np.ndarray)
    return {
        key: replace(entry, checksum=zlib.crc32(pixels[entry.offset :][: entry.size].data, _start(key, entry)))
        for key, entry in entries.items()
    }


def _line(key: str, entry: Entry) -> str:
    more = [int(entry.lost_colour), entry.region] if entry.region else [1] * entry.lost_colour
    return json.dumps([key, entry.offset, entry.shape, entry.checksum, *more]) + "\n"


def _append(
    folder: Path, todo: list[tuple[str, Path]], reader: Reader, workers: int, progress: bool
) -> dict[str, Entry]:
    """Read files and append them; failures are returned and tried again by the next run."""
    added: dict[str, Entry] = {}
    with (
        open_own(folder / "pixels.u8", "ab") as data,
        open_own(folder / "index.jsonl", "a", encoding="utf-8") as index,
        Counter(len(todo), "reading files", "file", progress) as counter,
    ):
        offset = data.tell()
        reads = isolated(reader.load, (file for _, file in todo), workers)
        for (key, _), read in zip(todo, reads, strict=True):
            if isinstance(read, DataError):
                added[key] = Entry(0, (), str(read))
            else:
                pixels = np.ascontiguousarray(read.pixels)
                region = read.region if isinstance(read, ClipRead) else None
                entry = Entry(offset, pixels.shape, lost_colour=read.lost_colour, region=region)
                added[key] = replace(entry, checksum=zlib.crc32(pixels.data, _start(key, entry)))
                data.write(pixels.data)
                data.flush()
                index.write(_line(key, added[key]))
                offset += pixels.size
            counter.update()
    return added
