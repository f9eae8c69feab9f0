"""From the amounts of two stains to the colours of a scanned slide (the law of Beer and Lambert)."""

from dataclasses import dataclass

import cv2
import numpy as np

from .histology_nuclei import DENSITY

# Absorption (natural logarithm) of red, green and blue by a unit of haematoxylin, and of eosin, in two laboratories.
CENTRES = (
    ((0.56, 0.75, 0.36), (0.12, 0.90, 0.42)),
    ((0.66, 0.69, 0.29), (0.09, 0.92, 0.30)),
)


@dataclass(frozen=True, eq=False)
class Stain:
    """How one slide was stained and scanned.

    Attributes:
        absorption: (2, 3), of a unit of haematoxylin and of eosin.
        light: (3,) grey values of empty glass.
    """

    absorption: np.ndarray
    light: np.ndarray

    @classmethod
    def draw(cls, centre: int, rng: np.random.Generator) -> "Stain":
        """Draw a slide of the laboratory `centre`: its vectors and strengths vary a little from slide to slide."""
        vectors = np.array(CENTRES[centre % len(CENTRES)]) * rng.normal(1, 0.05, (2, 3))
        strength = rng.normal(1, 0.16, (2, 1)).clip(0.7, 1.35)
        return cls(vectors * strength, np.array([243.0, 241.0, 244.0]) + rng.normal(0, 1.5, 3))

    def tables(self) -> np.ndarray:
        """Return (2, 3, 256) uint8.

        It is what 0..255 (in 1 / DENSITY) of haematoxylin, and of eosin, let through of `light` and of 255.
        """
        amount = np.arange(256) / DENSITY
        through = np.exp(-self.absorption[..., None] * amount)
        return np.rint(through * np.stack([self.light, np.full(3, 255.0)])[..., None]).astype(np.uint8)


def colours(haematoxylin: np.ndarray, eosin: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB of two (H, W) uint8 maps of stain, by the tables of `Stain.tables`."""
    first, second = (np.ascontiguousarray(table.T[None]) for table in tables)
    blue, pink = cv2.LUT(cv2.merge([haematoxylin] * 3), first), cv2.LUT(cv2.merge([eosin] * 3), second)
    return cv2.multiply(blue, pink, scale=1 / 255)
