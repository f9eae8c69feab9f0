"""Augmentation of images by albumentations: one channel stays one, and a seed decides every draw."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL import Image

from ...core.errors import UserError
from ...core.ranges import check_ranges, within
from .randaug import parse_randaug

Transform = Callable[[np.ndarray, int], np.ndarray]

_INTERPOLATIONS = {"bicubic": "INTER_CUBIC", "bilinear": "INTER_LINEAR"}  # names in OpenCV


@dataclass(frozen=True)
class Augment:
    """What is drawn for a training image. The defaults are the thorax paper's pre-training (section 3.2).

    Attributes:
        size: Side of the square result, px.
        crop_scale: Least and greatest share of the image's area that is cropped.
        crop_ratio: Least and greatest width / height of the crop.
        flip: Probability of mirroring left and right.
        rotate_deg: Greatest rotation to either side, degrees; corners become black.
        brightness_contrast: Greatest change of brightness and of contrast, as a share; 0 = none.
        randaug: RandAugment policy, such as m6-n2-mstd0.5-inc1 (the paper's fine-tuning), or none.
        randaug_first: RandAugment sees the whole image, before the crop (VideoMAE V2), instead of the crop (timm).
        fill: What RandAugment lets in from outside the image: one grey level, or one per channel.
        interpolation: bicubic or bilinear; where the crop shrinks, its area is averaged instead.
    """

    size: int = field(default=224, metadata=within(1))
    crop_scale: tuple[float, float] = field(default=(0.5, 1.0), metadata=within(0, 1, exclude="low", ordered=True))
    crop_ratio: tuple[float, float] = field(default=(3 / 4, 4 / 3), metadata=within(0, exclude="low", ordered=True))
    flip: float = field(default=0.5, metadata=within(0, 1))
    rotate_deg: float = field(default=0.0, metadata=within(0, 180))
    brightness_contrast: float = field(default=0.0, metadata=within(0, 1))
    randaug: str | None = None
    randaug_first: bool = False
    fill: tuple[int, ...] = field(default=(128,), metadata=within(0, 255))
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"

    def __post_init__(self):
        check_ranges(self, "augment")
        if len(self.fill) not in (1, 3):
            raise UserError(f"augment.fill {self.fill}: one grey level, or three.")
        if self.interpolation not in _INTERPOLATIONS:
            raise UserError(f"interpolation {self.interpolation!r}: bicubic or bilinear.")
        if self.randaug is not None:
            parse_randaug(self.randaug)


def build_train(augment: Augment) -> Transform:
    """Make the training transform: crop, flip, rotation, brightness and contrast, RandAugment.

    Returns:
        `transform(image, seed)`: (H, W) or (H, W, C) uint8 and a seed of at least 0 to (size, size) or
        (size, size, C) uint8. The same seed gives the same draw in any process: give it to every frame of a
        clip.
    """
    return _Train(augment)


def build_eval(size: int, resize_px: int | None = None, mode: str = "crop") -> Transform:
    """Make the transform for validation, test and prediction. Resizing is Pillow's antialiased bicubic.

    Args:
        size: Side of the square result, px.
        resize_px: For `crop`, what the shorter side becomes before the centre is cut out (the paper: 256 for
            224);
            default: size.
        mode: `crop` loses the rim, `squash` the proportions, `pad` nothing (black bars).

    Returns:
        `transform(image, seed)`: as `build_train`'s; the seed has no effect.
    """
    if mode not in ("crop", "squash", "pad"):
        raise UserError(f"mode {mode!r}: crop, squash or pad.")
    if resize_px is not None and (mode != "crop" or resize_px < size):
        raise UserError(f"resize_px {resize_px}: only for mode crop, and at least the size ({size}).")
    return _Eval(size, resize_px or size, mode)


class _Train:
    """Albumentations, and RandAugment before or after it; picklable for worker processes."""

    def __init__(self, augment: Augment):
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or it asks the network for updates when imported
        import albumentations as alb
        import cv2

        interpolation = getattr(cv2, _INTERPOLATIONS[augment.interpolation])
        side = (augment.size, augment.size)
        self._moves = [
            alb.RandomResizedCrop(
                side,
                augment.crop_scale,
                augment.crop_ratio,
                interpolation=interpolation,
                mask_interpolation=cv2.INTER_LINEAR,
                area_for_downscale="image_mask",
                p=1,
            )
        ]
        if augment.flip:
            self._moves.append(alb.HorizontalFlip(p=augment.flip))
        if augment.rotate_deg:
            linear = cv2.INTER_LINEAR
            self._moves.append(
                alb.Rotate(augment.rotate_deg, interpolation=interpolation, mask_interpolation=linear, p=1)
            )
        if augment.brightness_contrast:
            limit = augment.brightness_contrast
            self._moves.append(alb.RandomBrightnessContrast(limit, limit, p=1))
        self._randaug = parse_randaug(augment.randaug, augment.fill) if augment.randaug else None
        self._randaug_first = augment.randaug_first

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        # A seed of its own for each transform: a Compose gives all of them the same, so that a wide crop
        # would always come with the same flip and the same angle.
        seeds = iter(range(16 * seed, 16 * seed + 16))
        if self._randaug and self._randaug_first:
            image = self._randaug(image, np.random.default_rng(next(seeds)))
        if image.ndim == 3 and image.shape[2] > 4:
            image = _cropped_planes(self._moves[0], image, next(seeds))
            image = _applied(self._moves[1:], image, seeds)
        else:
            image = _applied(self._moves, image, seeds)
        if self._randaug and not self._randaug_first:
            image = self._randaug(image, np.random.default_rng(next(seeds)))
        return np.ascontiguousarray(image)

    def with_masks(self, image: np.ndarray, masks: list[np.ndarray], seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return an image and masks (H, W) of 0 and 1 of it, moved alike: each transform is given both.

        As grey levels, of which half or more is in the mask: its edges stay where those of the image are, which the
        nearest pixel does not. RandAugment is left out: it moves pixels without saying where to.
        """
        assert self._randaug is None, "moves pixels without their masks"
        if not masks:
            return self(image, seed), []
        masks = [mask * np.uint8(255) for mask in masks]
        for transform, own in zip(self._moves, range(16 * seed, 16 * seed + 16)):
            transform.set_random_seed(own)
            moved = transform(image=image, masks=masks)
            image, masks = moved["image"], list(moved["masks"])
        return np.ascontiguousarray(image), [(mask >= 128).astype(np.uint8) for mask in masks]


def _cropped_planes(crop, image: np.ndarray, seed: int) -> np.ndarray:
    """Crop many channels (frames of a clip), one after the other with one draw.

    OpenCV is up to twice as fast so as on four at a time, for which the whole frames would have to be interleaved
    first.
    """
    crop.set_random_seed(seed)
    planes = np.moveaxis(image, 2, 0)[..., None]
    return np.ascontiguousarray(np.moveaxis(crop(images=planes)["images"][..., 0], 0, 2))


def _applied(transforms: list, image: np.ndarray, seeds) -> np.ndarray:
    for transform in transforms:
        transform.set_random_seed(next(seeds))
        image = transform(image=image)["image"]
    return image


@dataclass(frozen=True)
class _Eval:
    size: int
    resize_px: int
    mode: str

    def __call__(self, image: np.ndarray, seed: int = 0) -> np.ndarray:
        height, width = image.shape[:2]
        if self.mode == "squash":
            return _resized(image, self.size, self.size)
        if self.mode == "crop":
            scale = self.resize_px / min(height, width)
            # Rounded down, as torchvision's Resize does.
            image = _resized(image, max(self.resize_px, int(height * scale)), max(self.resize_px, int(width * scale)))
            # Halves go to the even number, as in torchvision's CenterCrop.
            top, left = (round((side - self.size) / 2) for side in image.shape[:2])
            return np.ascontiguousarray(image[top : top + self.size, left : left + self.size])
        scale = self.size / max(height, width)
        image = _resized(image, max(1, round(height * scale)), max(1, round(width * scale)))
        canvas = np.zeros((self.size, self.size, *image.shape[2:]), image.dtype)
        top, left = ((self.size - side) // 2 for side in image.shape[:2])
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
        return canvas


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize by antialiased bicubic interpolation, channel by channel."""
    if image.shape[:2] == (height, width):
        return image
    if image.ndim == 3:
        return np.stack([_resized(channel, height, width) for channel in np.moveaxis(image, 2, 0)], axis=2)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
