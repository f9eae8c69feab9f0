"""Images that are in memory already: arrays, PIL images and tensors, read as files of the same pixels are."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ...core.errors import DataError
from ..images.colour import LUMA, Read

LEAST_PX = 16
SHAPES = "an image is (H, W) or (H, W, 3), a tensor also (1, H, W) or (3, H, W); give several as a list"


class InMemory(NamedTuple):
    """An image and what it is called.

    Attributes:
        name: For messages.
        image: (H, W) or (H, W, 3) array of uint8, uint16 or floats in 0..1, PIL image, or tensor, channels first or
            last.
    """

    name: str
    image: Any


@dataclass(frozen=True)
class ArrayReader:
    """Reads what is in memory: (H, W) grey, or (H, W, 3) RGB, uint8.

    Attributes:
        shorter_px: Shorter side that larger images are shrunk to, px.
        least_px: An image whose shorter side has less is refused.
        channels: 1 for grey, 3 for RGB.
    """

    shorter_px: int
    least_px: int = 0
    channels: int = 1

    def opened(self, item: InMemory) -> Read:
        """Return the pixels; whoever has made an image knows its colours."""
        return Read(self.open(item), False)

    def open(self, item: InMemory) -> np.ndarray:
        """Return the pixels.

        Raises:
            DataError: Another shape or type, values out of range, or an image that is too small.
        """
        from ..images.radiographs import shrunk, snapped

        pixels = _array(item)
        size, least = pixels.shape[:2], max(LEAST_PX, self.least_px)
        if min(size) < least:
            raise DataError(f"{item.name}: {size[1]} x {size[0]} px, too small (at least {least} px).")
        levels = snapped(shrunk(_levels(item.name, pixels, self.channels), size, self.shorter_px))
        levels = np.rint(levels * 255).astype(np.uint8)
        return np.repeat(levels[..., None], 3, axis=2) if self.channels == 3 and levels.ndim == 2 else levels


def _array(item: InMemory) -> np.ndarray:
    """(H, W) or (H, W, 3) of whatever kind."""
    image = item.image
    if isinstance(image, Image.Image):
        return _of_pil(item.name, ImageOps.exif_transpose(image))
    channels_first = hasattr(image, "detach")
    array = image.detach().cpu().numpy() if channels_first else np.asarray(image)
    if channels_first and array.ndim == 3 and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise DataError(f"{item.name}: shape {tuple(array.shape)}; {SHAPES}.")
    return array


def _of_pil(name: str, image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return np.asarray(image)
    if image.mode in ("I", "F"):
        raise DataError(f"{name}: a PIL image of the mode {image.mode!r} has no known range of grey; give L or RGB.")
    return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB"))


def _levels(name: str, pixels: np.ndarray, channels: int) -> np.ndarray:
    """(H, W), or of colours that are wanted (H, W, 3), float32 in 0..1."""
    from ..images.radiographs import by_used_bits

    to_grey = channels == 1 and pixels.ndim == 3
    if pixels.dtype == np.uint8:
        pixels = np.asarray(Image.fromarray(pixels).convert("L")) if to_grey else pixels
        return pixels.astype(np.float32) / 255
    if pixels.dtype != np.uint16 and not np.issubdtype(pixels.dtype, np.floating):
        raise DataError(f"{name}: values of the type {pixels.dtype}; give uint8, uint16, or floats in 0..1.")
    if pixels.dtype != np.uint16 and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise DataError(f"{name}: floats are in 0..1; these are in {pixels.min():.3g}..{pixels.max():.3g}.")
    grey = pixels @ LUMA if to_grey else pixels
    return by_used_bits(grey) if pixels.dtype == np.uint16 else grey.astype(np.float32)
