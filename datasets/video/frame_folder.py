"""A folder of frames as a clip, as data sets such as Something-Something V2 and AVA are often stored."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ...core.errors import DataError
from ..kinds import file_kind, is_frame
from .facts import refuse_large, steady_times


class FolderFrames:
    """The frames in a folder, ordered by the numbers in their names: `img_9.jpg` before `img_10.jpg`."""

    container = "folder"
    colour = True

    def __init__(self, path: Path, kind: str, *, max_megapixels: float | None, max_frames: int | None):
        files = [file for file in path.iterdir() if is_frame(file)]
        if not files:
            raise DataError(f"{path}: no JPEG or PNG frames in this folder. Name the clips, or the folder of one clip.")
        self._files = sorted(files, key=_by_number)
        self.codec = self._files[0].suffix[1:].lower() or file_kind(self._files[0]).lower()
        refuse_large(path, (0, 0), len(files), max_megapixels, max_frames)
        with _opened(self._files[0]) as image:
            self._stored = image.size
            refuse_large(self._files[0], image.size[::-1], 1, max_megapixels, max_frames)
            self.size = ImageOps.exif_transpose(image).size[::-1]
        self.times, self.fps = steady_times(len(files), None)

    def images(self, ids: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield (h, w) or (h, w, 3) uint8 of each frame."""
        for number in ids:
            yield self._image(self._files[number], size)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _image(self, file: Path, size: tuple[int, int]) -> np.ndarray:
        """Return (h, w) or (h, w, 3) uint8, of a JPEG perhaps smaller than stored, but at least twice `size`."""
        with _opened(file) as image:
            if image.size != self._stored:
                raise DataError(
                    f"{file}: {image.width}x{image.height} px, but the first frame of its folder is "
                    f"{self._stored[0]}x{self._stored[1]} px. A folder is one clip."
                )
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{file}: a frame of more than 8 bits per channel. Save the frames with 8 bits.")
            if size != self.size:
                image.draft(None, (2 * max(size), 2 * max(size)))
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert("L" if upright.mode in ("1", "L") else "RGB"))


def missing_numbers(folder: Path) -> list[int]:
    """Return the numbers that are left out between the first and the last frame of a folder.

    Frames may be counted in steps, such as 0, 5, 10; names without one running number tell nothing.
    """
    names = [_by_number(file) for file in folder.iterdir() if is_frame(file)]
    if len(names) < 3 or len({len(name) for name in names}) > 1:
        return []
    running = [place for place, parts in enumerate(zip(*names)) if len({part[2] for part in parts}) > 1]
    if len(running) != 1 or not all(name[running[0]][0] for name in names):
        return []
    numbers = np.unique([name[running[0]][1] for name in names])
    steps, counts = np.unique(np.diff(numbers), return_counts=True)
    step = int(steps[counts.argmax()])
    if any(int(number) % step != int(numbers[0]) % step for number in numbers):
        return []
    if int(numbers[-1] - numbers[0]) // step >= 10 * len(numbers):  # times, or numbers of something else
        return []
    return sorted(set(range(int(numbers[0]), int(numbers[-1]), step)) - set(numbers.tolist()))


def _by_number(file: Path) -> list[tuple[bool, int, str]]:
    """Return the name in parts, runs of digits as numbers."""
    parts = re.findall(r"[0-9]+|[^0-9]+", file.name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """Open an image; whatever Pillow raises on a broken one is a DataError, its warnings are kept to itself."""
    try:
        with warnings.catch_warnings(), Image.open(file, formats=("JPEG", "PNG")) as image:
            warnings.simplefilter("ignore")
            yield image
    except (DataError, MemoryError):
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{file}: a broken or truncated frame ({words}). Fetch it again.") from error
