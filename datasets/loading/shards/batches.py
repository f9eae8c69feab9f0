"""The order of an epoch over more shards than fit here: shards by chance, cases by chance within a few shards."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from ..loaders import TrainBatches
from .pixels import ShardPixels


class ShardBatches(TrainBatches):
    """Batches whose cases come from a window of shards, while those of the next window are fetched.

    The order depends on (seed, epoch) and the size of the window alone: not on the number of processes, nor on what is
    here already.

    Args:
        pixels: The source.
        rows: The rows of it that belong to the data set.
        batch, seed, rank, world, parts, drop_last: As of `TrainBatches`.
    """

    def __init__(
        self, pixels: ShardPixels, rows: np.ndarray, batch: int, seed: int, rank: int = 0, world: int = 1,
        parts: int = 1, drop_last: bool = True,
    ):  # fmt: skip
        super().__init__(len(rows), batch, seed, rank, world, parts, drop_last)
        self.pixels, self.shard_of = pixels, pixels.shard_of[rows]
        self.windows: list[np.ndarray] = []

    def order(self, draw: np.random.Generator) -> np.ndarray:
        """Return (cases,) positions of an epoch, in the order of their use."""
        shards, size = draw.permutation(np.unique(self.shard_of)), self.pixels.window
        self.windows = [shards[start : start + size] for start in range(0, len(shards), size)]
        return np.concatenate(
            [draw.permutation(np.flatnonzero(np.isin(self.shard_of, window))) for window in self.windows]
        )

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        now = -1
        with ahead(self.pixels) as fetch:
            for batch in super().__iter__():
                shard = self.shard_of[batch[-1][0]]
                window = next(number for number, shards in enumerate(self.windows) if shard in shards)
                if window > now:
                    now = window
                    fetch([shard for shards in self.windows[window : window + 2] for shard in shards.tolist()])
                yield batch


@contextmanager
def ahead(pixels: ShardPixels) -> Iterator[Callable[[list[int]], object]]:
    """Call `fetch(shards)` in the background; what is not begun at the end is left out.

    What fails there is left to the process that needs the shard, which tries again and tells.
    """
    pool = ThreadPoolExecutor(2, "shards")
    try:
        yield lambda shards: [pool.submit(pixels.fetch, shard) for shard in shards]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
