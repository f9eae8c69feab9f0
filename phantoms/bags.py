"""Invented slides as bags of tile features, of a difficulty that is set: how many tiles, how few ill, how far off."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..core.files import written_aside

TISSUES = 5  # kinds of healthy tissue, each with features around a mean of its own
TISSUE_STD, SLIDE_STD = 2.0, 0.5  # of these means, and of what all tiles of a slide have in common (its stain)


@dataclass(frozen=True)
class Difficulty:
    """How hard slides are to tell apart.

    Attributes:
        tiles: Least and greatest number of tiles of a slide.
        share: Of the tiles of a positive slide, those with the finding, in the mean; one at least.
        signal: How far their features are moved, all in one direction; the std of a feature within a tissue is 1.
        width: Features of a tile.
    """

    tiles: tuple[int, int] = (50, 150)
    share: float = 0.1
    signal: float = 4.0
    width: int = 32

    def __post_init__(self):
        if not 1 <= self.tiles[0] <= self.tiles[1] or not 0 < self.share <= 1 or self.signal < 0 or self.width < 1:
            raise UserError(f"{self}: tiles rise from 1, the share is above 0 to 1, signal from 0, width from 1.")


def tile_features(difficulty: Difficulty, positive: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features (N, D) of one slide's tiles, and which of them have the finding (N,).

    Tissues and the direction of the finding are the same in every slide.

    Args:
        difficulty: How hard.
        positive: Whether the slide has the finding.
        seed: Of the slide.
    """
    world, own = np.random.default_rng(0), np.random.default_rng((1, seed))
    means = world.normal(0, TISSUE_STD, (TISSUES, difficulty.width))
    direction = world.normal(size=difficulty.width)
    direction /= np.linalg.norm(direction)
    count = int(own.integers(difficulty.tiles[0], difficulty.tiles[1] + 1))
    tissue = own.choice(TISSUES, count, p=own.dirichlet(np.ones(TISSUES)))
    features = means[tissue] + own.normal(size=(count, difficulty.width))
    features += own.normal(0, SLIDE_STD, difficulty.width)
    ill = np.zeros(count, dtype=bool)
    if positive:
        ill[own.permutation(count)[: max(1, own.binomial(count, difficulty.share))]] = True
        features[ill] += difficulty.signal * direction
    return features.astype(np.float32), ill


def write_bag_table(path: Path, difficulty: Difficulty = Difficulty(), slides: int = 100, seed: int = 0) -> Path:
    """Write a CSV as `clinvit bags` reads it: `label,slide`, then a column per feature; every second slide positive.

    Args:
        path: To write.
        difficulty: How hard.
        slides: How many.
        seed: Of the slides.
    """
    lines = [",".join(["label", "slide", *(f"feature_{number}" for number in range(difficulty.width))])]
    for number in range(slides):
        features, _ = tile_features(difficulty, number % 2 == 1, seed * 1_000_003 + number)
        lines += [f"{number % 2},slide_{number}," + ",".join(f"{value:.4f}" for value in tile) for tile in features]
    with written_aside(path) as aside:
        aside.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path
