"""RandAugment for 8-bit images, equal op by op to timm's on a grey or RGB Pillow image.

Cubuk et al. 2020, as changed by timm (`timm/data/auto_augment.py`): n ops drawn with replacement, each
applied with probability 0.5 at a magnitude ~ N(m, mstd) within 0..10, from the 15 ops whose strength
increases with it. What changes grey levels goes through OpenCV's tables, which is faster; what moves pixels
through Pillow's bicubic kernel, which OpenCV's is not.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...core.errors import UserError

MAGNITUDE_MAX = 10.0
PROBABILITY = 0.5
_LEVELS = np.arange(256)


@dataclass(frozen=True)
class RandAugment:
    """A policy, applied by calling it.

    Attributes:
        magnitude: Mean strength, 0..10.
        ops: How many ops are drawn for an image.
        magnitude_std: Standard deviation of the strength.
        fill: What comes in from outside the image: one grey level, or one per channel.
    """

    magnitude: float = 10.0
    ops: int = 2
    magnitude_std: float = 0.0
    fill: tuple[int, ...] = (128,)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment an image (H, W) or (H, W, C) uint8; three channels are red, green and blue, others frames alike."""
        for op in rng.integers(len(OPS), size=self.ops):
            if rng.random() < PROBABILITY:
                strength = float(np.clip(rng.normal(self.magnitude, self.magnitude_std), 0, MAGNITUDE_MAX))
                sign = -1 if rng.random() < 0.5 else 1
                image = _OP_LIST[op](image, strength / MAGNITUDE_MAX, sign, self.fill)
        return image


def parse_randaug(text: str, fill: tuple[int, ...] = (128,)) -> RandAugment:
    """Read a policy such as `m6-n2-mstd0.5-inc1` or timm's `rand-m6-mstd0.5-inc1`.

    m (magnitude, 10 if not given), n (ops per image, 2), mstd (0), inc (only the increasing set, inc1, is
    here). `fill` is what comes in from outside the image.

    Raises:
        UserError: A part is not understood or out of range.
    """
    values = {"m": MAGNITUDE_MAX, "n": 2.0, "mstd": 0.0, "inc": 0.0}
    for part in text.removeprefix("rand-").split("-"):
        match = re.fullmatch(r"(m|n|mstd|inc)(\d+(?:\.\d+)?)", part)
        if not match:
            raise UserError(f"RandAugment {text!r}: {part!r} is not understood. Write it like m6-n2-mstd0.5-inc1.")
        values[match[1]] = float(match[2])
    if values["inc"] != 1:
        raise UserError(f"RandAugment {text!r}: only the increasing ops are available. Add -inc1.")
    if values["m"] > MAGNITUDE_MAX or values["n"] % 1:
        raise UserError(f"RandAugment {text!r}: m is within 0..{MAGNITUDE_MAX:g}, n is a whole number.")
    return RandAugment(values["m"], int(values["n"]), values["mstd"], fill)


# The ops: (image, level 0..1, sign -1 or 1, fill) -> image.
Fill = tuple[int, ...]


def auto_contrast(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Stretch the occupied range to 0..255, of each colour apart."""
    if _is_rgb(image):
        return np.dstack([auto_contrast(channel, level, sign, fill) for channel in np.moveaxis(image, 2, 0)])
    low, high = int(image.min()), int(image.max())
    if high <= low:
        return image
    scale = 255.0 / (high - low)
    return _looked_up(image, (_LEVELS * scale + -low * scale).astype(np.int64))


def equalize(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Flatten the histogram, of each colour apart, by Pillow's integer steps."""
    if _is_rgb(image):
        return np.dstack([equalize(channel, level, sign, fill) for channel in np.moveaxis(image, 2, 0)])
    histogram = np.bincount(image.ravel(), minlength=256)
    occupied = histogram[histogram > 0]
    step = (occupied.sum() - occupied[-1]) // 255
    if len(occupied) <= 1 or step == 0:
        return image
    below = np.concatenate([[0], np.cumsum(histogram)[:-1]])
    return _looked_up(image, (step // 2 + below) // step)


def invert(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Make the negative."""
    return 255 - image


def rotate(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Rotate about the centre by up to 30 degrees."""
    angle = -math.radians(sign * level * 30)
    height, width = image.shape[:2]
    cos, sin = math.cos(angle), math.sin(angle)
    to_x = width / 2 - cos * width / 2 - sin * height / 2
    to_y = height / 2 + sin * width / 2 - cos * height / 2
    return _moved(image, (cos, sin, to_x, -sin, cos, to_y), fill)


def posterize(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Keep the upper 4 to 1 bits (timm: to 0, which leaves nothing, and which Pillow refuses)."""
    bits = max(1, 4 - int(level * 4))
    return image & np.uint8(256 - 2 ** (8 - bits))


def solarize(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Invert all levels from a threshold of 256 down to 0."""
    threshold = 256 - int(level * 256)
    return _looked_up(image, np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS))


def solarize_add(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Brighten all levels below 128 by up to 110."""
    return _looked_up(image, np.where(_LEVELS < 128, _LEVELS + int(level * 110), _LEVELS))


def color(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Change the saturation. Grey has none: nothing happens, as often as in the paper."""
    if not _is_rgb(image):
        return image
    blended = _blended(_grey(image)[..., None].astype(np.int16), image.astype(np.int16), _factor(level, sign))
    return np.clip(blended, 0, 255).astype(np.uint8)


def contrast(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Change the contrast, away from or towards the mean grey level."""
    mean = (_grey(image) if _is_rgb(image) else image).mean()
    return _looked_up(image, _blended(int(mean + 0.5), _LEVELS, _factor(level, sign)))


def brightness(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Change the brightness, away from or towards black."""
    return _looked_up(image, _blended(0, _LEVELS, _factor(level, sign)))


def sharpness(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Sharpen or smooth, away from or towards the mean of 3x3 pixels (Pillow leaves the outermost alone)."""
    import cv2

    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
    smooth = image.copy()
    inner = slice(1, -1), slice(1, -1)
    smooth[inner] = cv2.filter2D(image, -1, kernel).reshape(image.shape)[inner]
    blended = _blended(smooth.astype(np.int16), image.astype(np.int16), _factor(level, sign))
    return np.clip(blended, 0, 255).astype(np.uint8)


def shear_x(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Slant by up to 0.3 px per row."""
    return _moved(image, (1, sign * level * 0.3, 0, 0, 1, 0), fill)


def shear_y(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Slant by up to 0.3 px per column."""
    return _moved(image, (1, 0, 0, sign * level * 0.3, 1, 0), fill)


def translate_x(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Shift by up to 45 % of the width."""
    return _moved(image, (1, 0, sign * level * 0.45 * image.shape[1], 0, 1, 0), fill)


def translate_y(image: np.ndarray, level: float, sign: int, fill: Fill) -> np.ndarray:
    """Shift by up to 45 % of the height."""
    return _moved(image, (1, 0, 0, 0, 1, sign * level * 0.45 * image.shape[0]), fill)


# By timm's names, in timm's order.
OPS: dict[str, Callable[[np.ndarray, float, int, Fill], np.ndarray]] = {
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Invert": invert,
    "Rotate": rotate,
    "PosterizeIncreasing": posterize,
    "SolarizeIncreasing": solarize,
    "SolarizeAdd": solarize_add,
    "ColorIncreasing": color,
    "ContrastIncreasing": contrast,
    "BrightnessIncreasing": brightness,
    "SharpnessIncreasing": sharpness,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateXRel": translate_x,
    "TranslateYRel": translate_y,
}
_OP_LIST = tuple(OPS.values())


def _is_rgb(image: np.ndarray) -> bool:
    return image.ndim == 3 and image.shape[2] == 3


def _grey(image: np.ndarray) -> np.ndarray:
    """Return the luma (H, W) of RGB, rounded as Pillow does."""
    return np.asarray(Image.fromarray(image).convert("L"))


def _factor(level: float, sign: int) -> float:
    """Return the enhancement factor: 1 is the image itself, 0.1 almost the degenerate one, 1.9 as far beyond."""
    return max(0.1, 1.0 + sign * level * 0.9)


def _blended(degenerate: int | np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
    """Blend as Pillow's `Image.blend`, in its single precision, before clipping; fractions are cut off."""
    return (degenerate + np.float32(factor) * (image - degenerate).astype(np.float32)).astype(np.int64)


def _looked_up(image: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Replace each grey level by that of a (256,) table, clipped to 0..255."""
    import cv2

    return cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)).reshape(image.shape)


def _moved(image: np.ndarray, matrix: tuple[float, ...], fill: Fill) -> np.ndarray:
    """Sample bicubically at (a x + b y + c, d x + e y + f), with Pillow's pixel centres at halves."""
    if image.ndim == 3 and not _is_rgb(image):
        return np.dstack([_moved(channel, matrix, fill) for channel in np.moveaxis(image, 2, 0)])
    colour = (fill * 3)[:3] if image.ndim == 3 else fill[0]
    moved = Image.fromarray(image).transform(
        image.shape[1::-1], Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=colour
    )
    return np.asarray(moved)
