"""A cache of decoded pictures or clips: every file is read and shrunk once, later epochs cut crops from a memory map.

`pixels.u8` holds the pictures one after the other, `index.jsonl` one line per file that was tried. Both only grow,
and a line is written after its pixels: a killed run leaves at worst a tail without a line, which is cut off.
"""

import hashlib
import json
import math
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import DataError, RunError
from ..locking import Lock
from .readers import Reader, make_reader
from .recipe import Data


@dataclass(frozen=True)
class Entry:
    """Where a picture or clip lies in `pixels.u8`, or why it does not."""

    offset: int
    shape: tuple[int, ...]
    reason: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape)


class PixelCache:
    """uint8 pixels of N files, in the order asked for. Worker processes open the file anew: no pixel is sent.

    Args:
        data: `pixels.u8`.
        entries: N entries.
    """

    def __init__(self, data: Path, entries: Sequence[Entry]):
        self.data = data
        # Offset and up to four sides: a list of hundreds of thousands of tuples would be sent to every worker.
        self.places = np.zeros((len(entries), 5), np.int64)
        for place, entry in zip(self.places, entries):
            place[: 1 + len(entry.shape)] = entry.offset, *entry.shape
        self._reasons = {row: entry.reason for row, entry in enumerate(entries) if entry.reason}
        self._pixels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> np.ndarray:
        """uint8 view of file `row`, of the shape that the reader gave; nothing is copied or decoded."""
        if row in self._reasons:
            raise DataError(self._reasons[row])
        if self._pixels is None:
            self._pixels = np.memmap(self.data, np.uint8, "r")
        offset, *sides = self.places[row]
        shape = [side for side in sides if side]
        return self._pixels[offset : offset + math.prod(shape)].reshape(shape)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_pixels": None}

    def reasons(self) -> list[str]:
        """N texts: why a file could not be read, empty where it could."""
        return [self._reasons.get(row, "") for row in range(len(self))]


class Files:
    """The same without a cache: files are opened when they are asked for, and what fails fails then."""

    def __init__(self, files: Sequence[Path], reader: Reader):
        self.files, self.reader = list(files), reader

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int):
        """Pixels of file `row`, or a clip that decodes the frames it is asked for."""
        return self.reader.open(self.files[row])

    def reasons(self) -> list[str]:
        """N empty texts: nothing has been tried yet."""
        return [""] * len(self)


def open_pixels(
    files: Sequence[Path], data: Data, folder: Path, *, frames: int, size_px: int, workers: int = 1, least_px: int = 0
) -> PixelCache | Files:
    """The pixels of files as a recipe wants them: from a cache that is built first, or from the files each time.

    Args:
        files: N files, in the order of the result.
        data: The recipe's words on data.
        folder: Where caches live.
        frames, size_px: Of the model's input.
        workers: Reading processes while the cache is built.
        least_px: Shorter side that a picture must have.
    """
    reader = make_reader(data.clip, frames=frames, size_px=size_px, cache_px=data.cache_px, least_px=least_px)
    return build_cache(files, folder, reader, workers) if data.cache else Files(files, reader)


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
    keys = [_key(file) for file in files]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with Lock(folder / "lock", folder, wait=True):
            known = _repair(folder)
            todo = [(key, file) for key, file in dict(zip(keys, files)).items() if key not in known]
            if todo:
                known |= _append(folder, todo, reader, workers, progress)
    except OSError as error:
        raise RunError(
            f"{folder}: the picture cache cannot be written ({error.strerror or error}). Free some space or name "
            "another place with --cache; what is cached already is kept."
        ) from None
    return PixelCache(folder / "pixels.u8", [known[key] for key in keys])


def _key(file: Path) -> str:
    """What identifies the content of a file or of a folder of frames cheaply: a hash of its place, sizes and times of
    change. Names of files may be those of people, and caches are copied.
    """
    try:
        # A frame that is replaced in place leaves the size and time of its folder as they were.
        state = _frames_state(file) if stat.S_ISDIR(file.stat().st_mode) else _state(file)
    except OSError:
        state = "missing"
    return hashlib.sha256(os.fsencode(f"{file.resolve()}|{state}")).hexdigest()


def _frames_state(folder: Path) -> str:
    with os.scandir(folder) as entries:
        states = sorted((entry.name, _state(entry)) for entry in entries)
    return hashlib.sha256(repr(states).encode()).hexdigest()


def _state(file: Path | os.DirEntry) -> str:
    """Size and time of change; a link that leads nowhere has neither."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return "missing"
    return f"{status.st_size}|{status.st_mtime_ns}"


def _repair(folder: Path) -> dict[str, Entry]:
    """Read the index, forget an unfinished last line and cut pixels that no line speaks of."""
    index, data = folder / "index.jsonl", folder / "pixels.u8"
    index.touch()
    data.touch()
    known, good, end = {}, 0, 0
    with index.open("rb") as lines:
        for line in lines:
            try:
                key, offset, shape = json.loads(line)
                entry = Entry(offset, tuple(shape))
            except (ValueError, TypeError):
                break
            if not line.endswith(b"\n") or offset + entry.size > data.stat().st_size:
                break
            good += len(line)
            end = offset + entry.size
            known[key] = entry
    os.truncate(index, good)
    os.truncate(data, end)
    return known


def _append(
    folder: Path, todo: list[tuple[str, Path]], reader: Reader, workers: int, progress: bool
) -> dict[str, Entry]:
    """Read files and append them; failures are returned and tried again by the next run."""
    added: dict[str, Entry] = {}
    bar = tqdm(total=len(todo), desc="reading files", unit="file", disable=not (progress and sys.stderr.isatty()))
    with (
        (folder / "pixels.u8").open("ab") as data,
        (folder / "index.jsonl").open("a", encoding="utf-8") as index,
        bar,
    ):
        offset = data.tell()
        for key, pixels in _read_all(todo, reader, workers):
            if isinstance(pixels, str):
                added[key] = Entry(0, (), pixels)
            else:
                added[key] = Entry(offset, pixels.shape)
                data.write(pixels.tobytes())
                data.flush()
                index.write(json.dumps([key, offset, pixels.shape]) + "\n")
                offset += pixels.size
            bar.update()
    return added


def _read_one(file: Path, reader: Reader) -> np.ndarray | str:
    try:
        return reader.read(file)
    except DataError as error:
        return str(error)


def _read_all(todo: list[tuple[str, Path]], reader: Reader, workers: int) -> Iterable[tuple[str, np.ndarray | str]]:
    if workers <= 1 or len(todo) < 64:
        for key, file in todo:
            yield key, _read_one(file, reader)
        return
    queue = iter(todo)
    while batch := list(islice(queue, 20_000)):
        yield from _read_in_processes(batch, reader, workers)


def _read_in_processes(todo: list[tuple[str, Path]], reader: Reader, workers: int):
    """Read with worker processes; when one dies (a decoder crashed), the files under way are read one process each."""
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        waiting, queue, left = {}, iter(todo), dict(todo)
        try:
            for key, file in islice(queue, workers * 8):
                waiting[pool.submit(_read_one, file, reader)] = key
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    picture, key = future.result(), waiting.pop(future)
                    del left[key]
                    yield key, picture
                for key, file in islice(queue, len(done)):
                    waiting[pool.submit(_read_one, file, reader)] = key
            return
        except BrokenProcessPool:
            suspects = [key for key in waiting.values() if key in left]
    for key in suspects:
        yield key, _read_alone(left.pop(key), reader)
    yield from _read_in_processes(list(left.items()), reader, workers)


def _read_alone(file: Path, reader: Reader) -> np.ndarray | str:
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        try:
            return pool.submit(_read_one, file, reader).result()
        except BrokenProcessPool:
            return f"{file}: reading it took the process down. The file is damaged: copy or export it again."
