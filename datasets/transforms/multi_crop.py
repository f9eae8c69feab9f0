"""DINO's multi-crop: two large and several small crops of one image, each with its own colours and blur.

Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", section 3.1; main_dino.py. On OpenCV:
brightness, contrast, saturation and grey are products with one 3 x 3 matrix, so they cost one pass over the pixels.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from ...core.ranges import check_ranges, within

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's grey


@dataclass(frozen=True)
class MultiCrop:
    """What is drawn for each image; the defaults are DINO's and Self-ViT-MIL's.

    Attributes:
        local_crops: Small crops beside the two large ones (those have the size of the model's input).
        local_px: Side of a small crop, px; a multiple of the patch size.
        global_scale: Least and greatest share of the image's area in a large crop.
        local_scale: The same of a small crop.
        flip: Probability of mirroring left and right.
        turns: Mirror top and bottom and turn by multiples of 90 degrees too: for slides, which have no upright.
        jitter: Probability of changing the colours.
        brightness: Greatest change as a share.
        contrast: Greatest change as a share.
        saturation: Greatest change as a share; of no account for grey images.
        hue: Greatest change as a share of the circle; of no account for grey images.
        grey: Probability of making a colour image grey.
        blur: Probability of a Gaussian blur (sigma 0.1 to 2 px) of the first large, the second large, and small crops.
        solarise: Probability of inverting the bright half of the values in the second large crop.
    """

    local_crops: int = field(default=8, metadata=within(0))
    local_px: int = field(default=96, metadata=within(1))
    global_scale: tuple[float, float] = field(default=(0.4, 1.0), metadata=within(0, 1, exclude="low", ordered=True))
    local_scale: tuple[float, float] = field(default=(0.05, 0.4), metadata=within(0, 1, exclude="low", ordered=True))
    flip: float = field(default=0.5, metadata=within(0, 1))
    turns: bool = False
    jitter: float = field(default=0.8, metadata=within(0, 1))
    brightness: float = field(default=0.4, metadata=within(0, 1))
    contrast: float = field(default=0.4, metadata=within(0, 1))
    saturation: float = field(default=0.2, metadata=within(0, 1))
    hue: float = field(default=0.1, metadata=within(0, 0.5))
    grey: float = field(default=0.2, metadata=within(0, 1))
    blur: tuple[float, float, float] = field(default=(1.0, 0.1, 0.5), metadata=within(0, 1))
    solarise: float = field(default=0.2, metadata=within(0, 1))

    def __post_init__(self):
        check_ranges(self, "crops")


class MultiCropView:
    """The draws of one image, a view for `Cases`; picklable for worker processes.

    Args:
        crops: What is drawn.
        global_px: Side of the large crops, px.
    """

    repeats = 1

    def __init__(self, crops: MultiCrop, global_px: int):
        self.crops, self.global_px = crops, global_px

    def __call__(self, pixels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return the crops of an image (H, W) or (H, W, 3) uint8, decided by the seed.

        Returns:
            `image` (1, 2, C, S, S) and, where there are any, `local` (1, n, C, s, s), uint8.
        """
        crops, rng = self.crops, np.random.default_rng(seed)
        out = {
            "image": [
                self._crop(pixels, rng, self.global_px, crops.global_scale, crops.blur[0], 0.0),
                self._crop(pixels, rng, self.global_px, crops.global_scale, crops.blur[1], crops.solarise),
            ],
            "local": [
                self._crop(pixels, rng, crops.local_px, crops.local_scale, crops.blur[2], 0.0)
                for _ in range(crops.local_crops)
            ],
        }
        return {name: np.stack(images)[None] for name, images in out.items() if images}

    def _crop(
        self, pixels: np.ndarray, rng: np.random.Generator, size: int, scale: tuple[float, float], blur: float,
        solarise: float,
    ) -> np.ndarray:  # fmt: skip
        """Return one crop (C, size, size)."""
        import cv2

        crops = self.crops
        image = random_resized_crop(pixels, rng, size, scale)
        if rng.random() < crops.flip:
            image = cv2.flip(image, 1)
        if crops.turns:
            image = np.ascontiguousarray(np.rot90(image[:: rng.choice((-1, 1))], int(rng.integers(4))))
        image = self._colours(image, rng)
        if rng.random() < blur:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.1, 2.0))
        if rng.random() < solarise:
            image = np.where(image < 128, image, 255 - image)
        return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)

    def _colours(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Apply ColorJitter in a random order of its four parts, then perhaps grey."""
        jitter, grey = rng.random() < self.crops.jitter, rng.random() < self.crops.grey
        if image.ndim == 2:
            return self._grey_jitter(image, rng) if jitter else image
        parts = rng.permutation(["brightness", "contrast", "saturation", "hue"]).tolist() if jitter else []
        # Hue is no product: what comes before and after it is joined to one matrix each.
        turn = parts.index("hue") if jitter else 0
        image = self._linear(image, rng, parts[:turn])
        if jitter and self.crops.hue:
            image = _turn_hue(image, rng.uniform(-self.crops.hue, self.crops.hue))
        return self._linear(image, rng, parts[turn + 1 :], grey)

    def _linear(
        self, image: np.ndarray, rng: np.random.Generator, parts: list[str], grey: bool = False
    ) -> np.ndarray:  # fmt: skip
        """Change brightness, contrast and saturation in the order of `parts`, then perhaps to grey, in one map."""
        import cv2

        if not parts and not grey:
            return image
        mean = np.array(cv2.mean(image)[:3])
        matrix, shift = np.eye(3), np.zeros(3)
        to_grey = np.tile(_LUMA, (3, 1))
        for part in parts:
            limit = getattr(self.crops, part)
            factor = rng.uniform(1 - limit, 1 + limit)
            if part == "saturation":
                blend = factor * np.eye(3) + (1 - factor) * to_grey
                matrix, shift = blend @ matrix, blend @ shift
            else:
                middle = _LUMA @ (matrix @ mean + shift) if part == "contrast" else 0.0
                matrix, shift = factor * matrix, factor * shift + (1 - factor) * middle
        if grey:
            matrix, shift = to_grey @ matrix, to_grey @ shift
        return cv2.transform(image, np.column_stack([matrix, shift]))

    def _grey_jitter(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change brightness and contrast of an image without colours."""
        import cv2

        bright, contrast = (rng.uniform(1 - limit, 1 + limit) for limit in (self.crops.brightness, self.crops.contrast))
        middle = bright * cv2.mean(image)[0]
        table = np.arange(256) * bright * contrast + (1 - contrast) * middle
        return cv2.LUT(image, np.rint(table).clip(0, 255).astype(np.uint8))


def random_resized_crop(
    pixels: np.ndarray, rng: np.random.Generator, size: int, scale: tuple[float, float]
) -> np.ndarray:  # fmt: skip
    """Return a crop of a share `scale` of the area and 3/4 to 4/3 in width over height, at a random place, made square.

    Bicubic where it grows, averaged where it shrinks.

    Returns:
        (size, size[, 3]) uint8.
    """
    import cv2

    height, width = pixels.shape[:2]
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            break
    else:
        w = h = min(height, width)
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    crop = pixels[top : top + h, left : left + w]
    how = cv2.INTER_AREA if h >= size and w >= size else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=how)


def _turn_hue(image: np.ndarray, share: float) -> np.ndarray:
    """Turn the hues of RGB by a share of the circle."""
    import cv2

    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(share * 256) % 256)  # wraps around
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
