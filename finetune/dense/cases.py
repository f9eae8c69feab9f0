"""Images together with where their findings are: cropped, mirrored and turned alike."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...datasets.loading.cache import Pixels
from ...datasets.manifest.regions import UNKNOWN, Regions
from ...datasets.transforms.augment import Augment, build_eval, build_train
from ...datasets.transforms.views import EvalView


@dataclass(frozen=True, eq=False)
class Pair:
    """An image (H, W[, 3]) uint8 and the truth of its L labels, (L, H, W) uint8 as of `Regions.on`."""

    image: np.ndarray
    truth: np.ndarray

    def close(self) -> None:
        """Do nothing: as of all that a source opens, whoever took it closes it; an image is in memory."""


class WithRegions:
    """A source for `Cases` that gives each image with its truth.

    Args:
        pixels: The images.
        regions: Of the same rows.
    """

    def __init__(self, pixels: Pixels, regions: Regions):
        self.pixels, self.regions = pixels, regions
        self.apart = pixels.apart
        self.reader = getattr(pixels, "reader", None)

    def __getitem__(self, row: int) -> Pair:
        """Return the pair of a row.

        Raises:
            DataError: The file cannot be read, or a mask has other proportions.
        """
        image = self.pixels[row]
        return Pair(image, self.regions.on(row, *image.shape[:2]))

    def file(self, row: int) -> Any:
        """Return the file of a row, of sources that open files."""
        return self.pixels.file(row)  # type: ignore[attr-defined]

    def reasons(self) -> list[str]:
        """Return why rows cannot be read, empty where they can."""
        return self.pixels.reasons()


class DrawnTrainView:
    """A random crop of an image and its truth.

    Args:
        augment: What is random; without RandAugment.
    """

    def __init__(self, augment: Augment):
        self.in_space: Any = build_train(augment)
        self.size = augment.size

    def __call__(self, pair: Pair, seed: int) -> dict[str, np.ndarray]:
        """Return `image` (1, C, S, S) and `truth` (1, L, S, S) uint8."""
        somewhere = _somewhere(pair.truth)
        image, masks = self.in_space.with_masks(pair.image, list(pair.truth[somewhere]), seed)
        return _batch(image, pair.truth, somewhere, masks, self.size)


class DrawnEvalView:
    """The view that a model is evaluated on, and the truth in it.

    Args:
        view: Of the model.
    """

    def __init__(self, view: EvalView):
        self.in_space = build_eval(view.size, view.resize_px, view.mode)
        self.size = view.size

    def __call__(self, pair: Pair, view: int = 0) -> dict[str, np.ndarray]:
        """Return `image` (1, C, S, S) and `truth` (1, L, S, S) uint8."""
        somewhere = _somewhere(pair.truth)
        # As grey levels, of which half or more is the finding.
        masks = [self.in_space(mask * np.uint8(255), 0) >= 128 for mask in pair.truth[somewhere]]
        return _batch(self.in_space(pair.image, 0), pair.truth, somewhere, masks, self.size)


def _somewhere(truth: np.ndarray) -> np.ndarray:
    """Return which of L maps hold a finding: of the others nothing moves."""
    return np.flatnonzero((truth == 1).any(axis=(1, 2)))


def _batch(
    image: np.ndarray, truth: np.ndarray, somewhere: np.ndarray, masks: list[np.ndarray], size: int
) -> dict[str, np.ndarray]:
    out = np.zeros((len(truth), size, size), np.uint8)
    out[(truth == UNKNOWN).all(axis=(1, 2))] = UNKNOWN
    for label, mask in zip(somewhere, masks, strict=True):
        out[label] = mask
    pixels = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    return {"image": np.ascontiguousarray(pixels)[None], "truth": out[None]}
