"""A cache of decoded pictures: every file is read and shrunk once, later epochs cut crops from a memory map.

`pixels.u8` holds the pictures one after the other, `index.jsonl` one line per file that was tried. Both only grow,
and a line is written after its pixels: a killed run leaves at worst a tail without a line, which is cut off.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import DataError, RunError

# Part of every cache folder's name: a change of what a reader returns must not meet old pixels.
READER_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """Where a picture lies in `pixels.u8`, or why it does not."""

    offset: int
    height: int
    width: int
    reason: str = ""


class PixelCache:
    """uint8 pictures of N files, in the order asked for. Worker processes open the file anew: no pixel is sent.

    Args:
        data: `pixels.u8`.
        entries: N entries.
    """

    def __init__(self, data: Path, entries: Sequence[Entry]):
        self.data = data
        self.places = np.array([(e.offset, e.height, e.width) for e in entries], np.int64).reshape(-1, 3)
        self._reasons = {row: entry.reason for row, entry in enumerate(entries) if entry.reason}
        self._pixels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> np.ndarray:
        """(H, W) uint8 view of picture `row`; nothing is copied or decoded."""
        if row in self._reasons:
            raise DataError(self._reasons[row])
        if self._pixels is None:
            self._pixels = np.memmap(self.data, np.uint8, "r")
        offset, height, width = self.places[row]
        return self._pixels[offset : offset + height * width].reshape(height, width)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_pixels": None}

    def reasons(self) -> list[str]:
        """N texts: why a file could not be read, empty where it could."""
        return [self._reasons.get(row, "") for row in range(len(self))]


def load_pixels(path: Path, shorter_px: int) -> np.ndarray:
    """One radiograph as training and prediction see it: (H, W) uint8, shorter side at most `shorter_px`."""
    from .radiographs import read_radiograph

    picture = read_radiograph(path, shorter_px=shorter_px)
    return np.rint(picture * 255).astype(np.uint8)


def build_cache(
    files: Sequence[Path], folder: Path, shorter_px: int, workers: int = 1, progress: bool = True
) -> PixelCache:
    """Read what is not cached yet and open the cache for these files.

    Args:
        files: N files, in the order of the result.
        folder: Where caches live; one sub-folder per size and reader version.
        shorter_px: Shorter side of the cached pictures; smaller ones stay as they are.
        workers: Reading processes. One that dies over a file costs that file, not the run.
        progress: Show a bar on a terminal.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    folder = Path(folder) / f"{shorter_px}px-v{READER_VERSION}"
    keys = [_key(file) for file in files]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock"):
            known = _repair(folder)
            todo = [(key, file) for key, file in dict(zip(keys, files)).items() if key not in known]
            if todo:
                known |= _append(folder, todo, shorter_px, workers, progress)
    except OSError as error:
        raise RunError(
            f"{folder}: the picture cache cannot be written ({error.strerror or error}). Free some space or name "
            "another place with --cache; what is cached already is kept."
        ) from None
    return PixelCache(folder / "pixels.u8", [known[key] for key in keys])


def _key(file: Path) -> str:
    """What identifies a file's content cheaply: its place, size and time of change."""
    try:
        status = file.stat()
        return f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    except OSError:
        return f"{file.resolve()}|missing"


def _repair(folder: Path) -> dict[str, Entry]:
    """Read the index, forget an unfinished last line and cut pixels that no line speaks of."""
    index, data = folder / "index.jsonl", folder / "pixels.u8"
    index.touch()
    data.touch()
    known, good, end = {}, 0, 0
    with index.open("rb") as lines:
        for line in lines:
            try:
                key, offset, height, width, reason = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or offset + height * width > data.stat().st_size:
                break
            good += len(line)
            if not reason:
                end = offset + height * width
                known[key] = Entry(offset, height, width)
    os.truncate(index, good)
    os.truncate(data, end)
    return known


def _append(
    folder: Path, todo: list[tuple[str, Path]], shorter_px: int, workers: int, progress: bool
) -> dict[str, Entry]:
    """Read files and append them; failures are returned and tried again by the next run."""
    added: dict[str, Entry] = {}
    bar = tqdm(total=len(todo), desc="reading pictures", unit="file", disable=not (progress and sys.stderr.isatty()))
    with (
        (folder / "pixels.u8").open("ab") as data,
        (folder / "index.jsonl").open("a", encoding="utf-8") as index,
        bar,
    ):
        offset = data.tell()
        for key, picture in _read_all(todo, shorter_px, workers):
            if isinstance(picture, str):
                added[key] = Entry(0, 0, 0, picture)
            else:
                added[key] = Entry(offset, *picture.shape)
                data.write(picture.tobytes())
                data.flush()
                index.write(json.dumps([key, offset, *picture.shape, ""]) + "\n")
                offset += picture.size
            bar.update()
    return added


def _read_one(file: Path, shorter_px: int) -> np.ndarray | str:
    try:
        return load_pixels(file, shorter_px)
    except DataError as error:
        return str(error)


def _read_all(todo: list[tuple[str, Path]], shorter_px: int, workers: int) -> Iterable[tuple[str, np.ndarray | str]]:
    if workers <= 1 or len(todo) < 64:
        for key, file in todo:
            yield key, _read_one(file, shorter_px)
        return
    queue = iter(todo)
    while batch := list(islice(queue, 20_000)):
        yield from _read_in_processes(batch, shorter_px, workers)


def _read_in_processes(todo: list[tuple[str, Path]], shorter_px: int, workers: int):
    """Read with worker processes; when one dies (a decoder crashed), the files under way are read one process each."""
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        waiting, queue, left = {}, iter(todo), dict(todo)
        try:
            for key, file in islice(queue, workers * 8):
                waiting[pool.submit(_read_one, file, shorter_px)] = key
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    picture, key = future.result(), waiting.pop(future)
                    del left[key]
                    yield key, picture
                for key, file in islice(queue, len(done)):
                    waiting[pool.submit(_read_one, file, shorter_px)] = key
            return
        except BrokenProcessPool:
            suspects = [key for key in waiting.values() if key in left]
    for key in suspects:
        yield key, _read_alone(left.pop(key), shorter_px)
    yield from _read_in_processes(list(left.items()), shorter_px, workers)


def _read_alone(file: Path, shorter_px: int) -> np.ndarray | str:
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        try:
            return pool.submit(_read_one, file, shorter_px).result()
        except BrokenProcessPool:
            return f"{file}: reading it took the process down. The file is damaged: copy or export it again."


@contextmanager
def _locked(path: Path):
    """One writer at a time; the lock goes with the process that holds it."""
    import fcntl

    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
