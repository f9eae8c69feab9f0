"""What dies, hangs or fails over some files or tiles; importable, for processes to find it."""

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from clinvit.datasets.images.colour import Read
from clinvit.datasets.loading import isolation
from clinvit.datasets.loading.readers import ImageReader
from clinvit.datasets.slides.reading import Slide
from clinvit.datasets.slides.stain import Normaliser
from clinvit.datasets.slides.tiles import TileGrid


class DeadlyReader(ImageReader):
    """Reads images, but for files whose text says what to do; a file beside each counts how often it was opened."""

    writes = True

    def load(self, path: Path) -> Read:
        with path.with_suffix(".tries").open("a") as tries:
            tries.write("x")
        deed = path.read_bytes()[:20].decode(errors="replace").strip()
        if deed in ("SIGKILL", "SIGSEGV", "SIGABRT"):
            os.kill(os.getpid(), getattr(signal, deed))
        if deed == "exit":
            os._exit(1)
        if deed == "hang":
            time.sleep(3600)
        if deed == "fault":
            raise IndexError("list index\nout of range")
        if deed == "memory":
            raise MemoryError
        return super().load(path)


class Enlarging:
    """Reads images and repeats their pixels 200 times along both sides."""

    writes = True  # as the deadly one within

    def __init__(self, reader: ImageReader):
        self.reader = reader

    def __call__(self, path: Path) -> np.ndarray:
        return self.reader.read(path).repeat(200, axis=0).repeat(200, axis=1)


class Hostile:
    """Reads, but answers the item after 1 with bytes of its own."""

    def __init__(self, answer: bytes):
        self.answer = answer

    def __call__(self, item: int) -> int:
        if item == 1:
            isolation.packed = lambda number, result: (self.answer, [])
        return item


class Lying:
    """Reads, but over the item 1 ends its process, which says that it was at another place."""

    def __init__(self, place: int, code: int):
        self.place, self.code = place, code

    def __call__(self, item: int) -> int:
        if item != 1:
            return item
        serve = sys._getframe(2)  # the caller of `_tried`, which holds the position in the parent's memory
        serve.f_locals["at"].value = self.place
        os.kill(os.getpid(), self.code)
        raise AssertionError


class Writer:
    """Writes a file, and says so or not."""

    def __init__(self, writes: bool):
        self.writes = writes

    def __call__(self, path: Path) -> int:
        return path.write_text("x")


class KilledWhenStarted:
    """Reads images, but that so many processes are killed while they start; the file `counter` counts them."""

    def __init__(self, counter: Path, deaths: int):
        self.counter, self.deaths = counter, deaths

    def __reduce__(self):
        return _started, (self.counter, self.deaths)

    def __call__(self, path: Path) -> np.ndarray:
        raise AssertionError("never called in the process that hands it out")


def _started(counter: Path, deaths: int):
    with counter.open("a") as file:
        file.write("x")
    if len(counter.read_text()) <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return ImageReader(32).read


def tries(path: Path) -> int:
    """How often a file was opened."""
    return len(path.with_suffix(".tries").read_text())


class DeadlyNormaliser(Normaliser):
    """Ends its process over a tile."""

    def __init__(self, tile: np.ndarray):
        self.tile = tile

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        if np.array_equal(tile, self.tile):
            os.abort()
        return tile


def die_over(file: Path) -> Callable:
    """A fit of stain normalisations that ends its process over a slide."""
    return partial(_fit, file)


def _fit(file: Path, slide: Slide, grid: TileGrid) -> DeadlyNormaliser | None:
    if slide.path == file:
        os.abort()
    return None
