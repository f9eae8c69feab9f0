"""Batches that are mixed over the tiles of many slides."""

import numpy as np

from ...core.errors import UserError
from ..loading.loaders import TrainBatches


class TileBatches(TrainBatches):
    """Batches that are mixed over all slides, with as many tiles of each slide in every epoch.

    Tiles of one slide in a row, as a sampler that does not shuffle gives them, would make each batch one stain and one
    patient, and DINO's centre with it.

    Args:
        counts: (S,) tiles of each slide, which lie one slide after the other.
        tiles_per_slide: Drawn of each for an epoch, without replacement, with it where a slide has fewer; None for all.
        batch, seed, rank, world, parts, drop_last: As of `TrainBatches`.
    """

    def __init__(
        self, counts: np.ndarray, tiles_per_slide: int | None, batch: int, seed: int, rank: int = 0, world: int = 1,
        parts: int = 1, drop_last: bool = True,
    ):  # fmt: skip
        if tiles_per_slide is not None and tiles_per_slide < 1:
            raise UserError(f"tiles_per_slide {tiles_per_slide}: at least 1, or null for all.")
        self.counts, self.tiles_per_slide = np.asarray(counts), tiles_per_slide
        cases = int(self.counts.sum()) if tiles_per_slide is None else tiles_per_slide * len(self.counts)
        super().__init__(cases, batch, seed, rank, world, parts, drop_last)

    def order(self, draw: np.random.Generator) -> np.ndarray:
        """Return (cases,) rows of an epoch, in the order of their use."""
        share = self.tiles_per_slide
        if share is None:
            return super().order(draw)
        starts = np.cumsum(self.counts) - self.counts
        drawn = [start + draw.choice(count, share, replace=count < share) for start, count in zip(starts, self.counts)]
        return draw.permutation(np.concatenate(drawn))
