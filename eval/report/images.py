"""Images inside a page, as `data:` URIs: it needs no file beside it."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

CASE_PX = 384  # of a case's image
MOST_SHOWN = 4  # images of a unit
Shown = Callable[[str], np.ndarray | None]  # of an id


def jpeg_uri(pixels: np.ndarray, longest_px: int = CASE_PX, quality: int = 80) -> str:
    """Return a JPEG as a `data:` URI.

    Args:
        pixels: (H, W), (H, W, 1) or (H, W, 3), uint8, uint16, or float in 0..1.
        longest_px: Longer side; larger images are made smaller.
        quality: Of the JPEG.
    """
    return data_uri(thumbnail(pixels, longest_px), "JPEG", quality=quality, optimize=True)


def thumbnail(pixels: np.ndarray, longest_px: int) -> "Image.Image":
    """Return the image with a longer side of at most `longest_px`; the pixels are those of `jpeg_uri`."""
    from PIL import Image

    pixels = np.asarray(pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype == np.uint16:
        pixels = pixels >> 8
    elif pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(np.nan_to_num(pixels.astype(np.float64)), 0, 1) * 255)
    small = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    small.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return small


def data_uri(image: "Image.Image", kind: str, **options) -> str:
    """Return an image as a `data:` URI of a PNG or a JPEG; the options are Pillow's."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def together(members: Mapping[str, Sequence[str]], image: Shown) -> Shown:
    """Return what gives the images of a unit side by side, of one height; at most four.

    Args:
        members: Ids of the images of each unit.
        image: What gives the image of an id, or None.
    """

    def shown(unit: str) -> np.ndarray | None:
        found = [pixels for case in members.get(unit, ())[:MOST_SHOWN] if (pixels := image(case)) is not None]
        small = [np.asarray(thumbnail(pixels, CASE_PX).convert("RGB")) for pixels in found]
        height = max((len(pixels) for pixels in small), default=0)
        parts = [np.pad(pixels, ((0, height - len(pixels)), (0, 0), (0, 0))) for pixels in small]
        return np.concatenate(parts, axis=1) if parts else None

    return shown
