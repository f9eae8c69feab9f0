"""What is kept of an image or clip.

A digest of its pixels, small high-passed copies and their waves to know it again, and what a network could see of how
it was made (`datasets.shortcuts`).

A copy that was re-encoded, resized, brightened or slightly cropped has another digest, but nearly the same small copy.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..images.colour import Read
from ..images.flat import is_flat
from ..video.region import ClipRead

SMALL_PX = 64
WAVES = 12  # of the cosine transform, along each side
FRAMES = 5  # of a clip, spread over it
BLUR_PX = 4  # sigma; what is coarser than this all images of a kind share
EDGE_PX = 8  # side of a corner of a small copy


@dataclass
class Looks:
    """Of N cases, in the order in which they were added; F frames each (1 of an image).

    Attributes:
        rows: N rows of the manifest.
        digests: N digests of all pixels that were looked at.
        owners: N x F places in `rows`.
        small: N x F high-passed copies, (64, 64) int8; all 0 where the image is flat.
        waves: N x F x 143 signed weights of its low waves, float32.
        sizes: N x (height, width, frames) as read.
        borders: N x 4 shares of a flat border: top, bottom, left, right.
        corners: N x 8: mean and std of the grey levels in each corner.
    """

    rows: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    small: list[np.ndarray] = field(default_factory=list)
    waves: list[np.ndarray] = field(default_factory=list)
    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    borders: list[np.ndarray] = field(default_factory=list)
    corners: list[np.ndarray] = field(default_factory=list)
    _first: dict[bytes, "Look"] = field(default_factory=dict, repr=False)  # by digest

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, row: int, look: "Look") -> None:
        """Keep one more case; of equal ones the arrays of the first, for there may be a million."""
        look = self._first.setdefault(look.digest, look)
        self.rows.append(row)
        self.digests.append(look.digest)
        self.owners += [len(self.rows) - 1] * len(look.small)
        self.small += look.small
        self.waves += look.waves
        self.sizes.append(look.size)
        self.borders.append(look.borders)
        self.corners.append(look.corners)


@dataclass(frozen=True)
class Look:
    """What `Looks` has of N cases, of one; whether colours were lost when it was read, and whether it shows nothing."""

    digest: bytes
    small: list[np.ndarray]
    waves: list[np.ndarray]
    size: tuple[int, int, int]
    borders: np.ndarray
    corners: np.ndarray
    lost_colour: bool = False
    flat: bool = False


@dataclass(frozen=True)
class LookAt:
    """From a file to its `Look`, which is all that a process need send of a file that is only tried."""

    read: Callable[[Path], Read | ClipRead | np.ndarray]

    def __call__(self, path: Path) -> Look:
        """Read a file and look at it."""
        content = self.read(path)
        if isinstance(content, Read | ClipRead):
            return replace(look_at(content.pixels), lost_colour=content.lost_colour)
        return look_at(content)


def look_at(pixels: Any) -> Look:
    """Look at a case.

    Args:
        pixels: (H, W) or (H, W, 3) of an image, (T, H, W) or (T, H, W, 3) of a clip, uint8 or float in 0..1; or an
            open clip, of which a few frames are decoded.
    """
    whole = isinstance(pixels, np.ndarray)
    if whole and (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        frames, length = pixels[None], 1
    else:
        places = ((np.arange(FRAMES) + 0.5) / FRAMES * len(pixels)).astype(np.int64)
        frames, length = pixels[np.unique(places)], len(pixels)
    content = np.ascontiguousarray(pixels if whole else frames)
    digest = hashlib.blake2b(repr(content.shape).encode(), digest_size=16)
    digest.update(content.data)
    greys = [_grey(frame) for frame in frames]
    middle = greys[len(greys) // 2]
    return Look(
        digest.digest(),
        [_fine(grey) for grey in greys],
        [_waves(grey) for grey in greys],
        (*frames.shape[1:3], length),
        _borders(middle),
        _corners(middle),
        flat=is_flat(frames),
    )


def _grey(frame: np.ndarray) -> np.ndarray:
    """Return (64, 64) float32 in 0..255."""
    import cv2

    grey = frame if frame.ndim == 2 else frame.mean(axis=2)
    grey = cv2.resize(grey.astype(np.float32), (SMALL_PX, SMALL_PX), interpolation=cv2.INTER_AREA)
    return grey if frame.dtype == np.uint8 else grey * 255


def _fine(grey: np.ndarray) -> np.ndarray:
    import cv2

    fine = grey - cv2.GaussianBlur(grey, (0, 0), BLUR_PX)
    fine -= fine.mean()
    if fine.std() < 1:  # less than a grey level of structure is the noise of an empty image
        return np.zeros(fine.shape, np.int8)
    for _ in range(3):  # letters and markers that were burned in must not outweigh the rest
        most = 2 * fine.std()
        fine = fine.clip(-most, most)
    return (fine * (127 / most)).round().astype(np.int8)


def _waves(grey: np.ndarray) -> np.ndarray:
    import cv2

    half = grey.reshape(SMALL_PX // 2, 2, SMALL_PX // 2, 2).mean(axis=(1, 3))
    waves = cv2.dct(half)[:WAVES, :WAVES].ravel()[1:]
    return waves / max(float(np.linalg.norm(waves)), 1e-6)


def _borders(grey: np.ndarray) -> np.ndarray:
    sides = (grey, grey[::-1], grey.T, grey.T[::-1])
    return np.array([np.argmax(np.append(side.std(axis=1) >= 1, True)) / SMALL_PX for side in sides])


def _corners(grey: np.ndarray) -> np.ndarray:
    ends = slice(None, EDGE_PX), slice(-EDGE_PX, None)
    corners = [grey[rows, columns] for rows in ends for columns in ends]
    return np.array([metric for corner in corners for metric in (corner.mean(), corner.std())])
