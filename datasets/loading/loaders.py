"""From images and clips to batches.

All randomness of a sample comes from (seed, epoch, position): a run that was interrupted, or has another number of
workers or processes, sees the same images as one that was not.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import current_process
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ...core.errors import DataError, UserError, too_many_bad
from ...core.platform import START_METHOD, usable_cores
from .cache import Pixels, Sample, SampleMaker, Tried
from .isolation import Reading, one_thread
from .limits import READ_SECONDS

View = Callable[[Any, int], np.ndarray | dict[str, np.ndarray]]


class Cases(Dataset):
    """Batches of images or clips, cut and augmented.

    Files that are decoded for them are so in a process of its own: a decoder that dies or hangs over a file costs that
    file.

    Args:
        source: Pixels by row: a `PixelCache`, `Files`, or another that says what is to be made `apart`.
        rows: Which rows of the source belong to the data set.
        view: (pixels, seed or number of a view) to (R, C, S, S) or (R, C, T, S, S) uint8, or to several such arrays by
            name.
        targets: (len(source), L) float32, or None.
        max_bad: Share of the cases that may fail when they are read while training; they are left out of their batch.
            A `PixelCache` has sorted them out before.
    """

    def __init__(
        self, source: Pixels, rows: np.ndarray, view: View, targets: np.ndarray | None = None,
        max_bad: float = 0.0,
    ):  # fmt: skip
        self.source, self.rows, self.view, self.targets = source, np.asarray(rows), view, targets
        self.max_bad = max_bad
        self.bad: set[int] = set()
        self._reading: Reading | None = None
        self._time = READ_SECONDS.fixed()

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_reading": None}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, samples: list[tuple[int, int]]) -> dict[str, Any]:
        """Return a batch: `image` (B, C, [T,] S, S) uint8, or what the view names; `row` (B,) rows of the source.

        There is a `target` (B, L) where the data set has targets. B counts every sample of a case. Where files of it
        cannot be read, `unread` holds pairs of row and reason.
        """
        parts, rows, unread = [], [], []
        wanted = [self._sample(int(self.rows[position]), seed) for position, seed in samples]
        for sample, arrays in zip(wanted, self._make(wanted)):
            if isinstance(arrays, DataError):
                self._count_bad(sample.row, arrays)
                unread.append((sample.row, str(arrays)))
            else:
                parts.append(arrays if isinstance(arrays, dict) else {"image": arrays})
                rows += [sample.row] * len(next(iter(parts[-1].values())))
        if not parts:
            raise DataError(f"none of the {len(samples)} files of a batch can be read.")
        batch = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
        batch["row"] = torch.tensor(rows)
        if self.targets is not None:
            batch["target"] = torch.from_numpy(self.targets[rows])
        return batch | ({"unread": unread} if unread else {})

    def _sample(self, row: int, seed: int) -> Sample:
        return Sample(row, seed, self.source.file(row) if self.source.apart else "")

    def _make(self, wanted: Sequence[Sample]) -> Iterable:
        """Return what the view gives of each, or its DataError."""
        if not self.source.apart:
            return map(partial(_tried, SampleMaker(self.source, self.view)), wanted)
        if self._reading is None:
            view = self.view if self.source.apart == "view" else None
            self._reading = Reading(SampleMaker(self.source, view), self._time)
        results = self._reading(wanted)
        if self.source.apart == "view":
            return results
        return (x if isinstance(x, DataError) else self.view(x, sample.seed) for sample, x in zip(wanted, results))

    def _count_bad(self, row: int, error: DataError) -> None:
        self.bad.add(row)
        if len(self.bad) > self.max_bad * len(self.rows):
            raise error


class TrainBatches(Sampler):
    """Shuffled batches of (position, seed), the share of one process of a run over several.

    Args:
        cases: Size of the data set.
        batch: Cases per step over all processes.
        seed: Of the run.
        rank: This process.
        world: How many processes there are; `batch` is a multiple of it.
        parts: Steps that are added up before the weights move (`optim.accumulate`): an epoch has no half sum.
        drop_last: Leave out the cases that do not fill a last batch. Else that batch is smaller; where it does not
            divide over the processes, its first cases fill it up.
        least: Cases that a process needs for a step: a last batch of fewer is left out, unless it is the only one.
    """

    def __init__(
        self, cases: int, batch: int, seed: int, rank: int = 0, world: int = 1, parts: int = 1, drop_last: bool = True,
        least: int = 1,
    ):  # fmt: skip
        if batch % world:
            raise UserError(f"batch size {batch} does not divide over {world} processes; choose a multiple.")
        if drop_last and cases < batch * parts:
            raise UserError(
                f"batch size {batch * parts} is larger than the {cases} training cases; lower optim.batch_size."
            )
        self.cases, self.batch, self.seed, self.rank, self.world = cases, batch, seed, rank, world
        self.parts, self.drop_last, self.least = parts, drop_last, least
        self.epoch = 0
        # (epoch, steps of it that an interrupted run has done).
        self.done = (0, 0)

    def __len__(self) -> int:
        if not self.drop_last:
            return -(-self.cases // self.batch) - (self.left_out() > 0)
        return self.cases // (self.batch * self.parts) * self.parts

    def left_out(self) -> int:
        """Return how many cases of each epoch are too few for a last batch (`least`)."""
        rest = self.cases % self.batch
        few = 0 < rest < self.cases and -(-rest // self.world) < self.least
        return rest if few and not self.drop_last else 0

    @property
    def sampler(self) -> "TrainBatches":
        """Return itself.

        Lightning looks for `set_epoch` at a batch sampler's `sampler`, not at the batch sampler itself.
        """
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each one, also after a resume."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        draw = np.random.default_rng([self.seed, self.epoch])
        order = self.order(draw)
        seeds = draw.integers(0, 2**63, self.cases)
        for step in range(self.done[1] if self.epoch == self.done[0] else 0, len(self)):
            drawn = np.arange(step * self.batch, min((step + 1) * self.batch, self.cases))
            drawn = np.resize(drawn, -(-len(drawn) // self.world) * self.world)
            share = len(drawn) // self.world
            own = drawn[self.rank * share : (self.rank + 1) * share]
            yield [(int(order[i]), int(seeds[i])) for i in own]

    def order(self, draw: np.random.Generator) -> np.ndarray:
        """Return (cases,) positions of an epoch, in the order of their use."""
        return draw.permutation(self.cases)


def train_loader(dataset: Dataset, batches: TrainBatches, workers: int, done: tuple[int, int] = (0, 0)) -> DataLoader:
    """Make a loader over shuffled batches; workers live through all epochs.

    Args:
        dataset: Gives batches by `__getitems__`.
        batches: Of positions and seeds.
        workers: Loading processes.
        done: See `TrainBatches.done`.
    """
    batches.done = done
    return _loader(dataset, batches, workers)


def eval_loader(dataset: Cases, batch: int, workers: int, views: int = 1) -> DataLoader:
    """Make a loader over every case in order, each with all its views; the last batch is smaller."""
    samples = [(position, view) for position in range(len(dataset)) for view in range(views)]
    return _loader(dataset, [samples[i : i + batch] for i in range(0, len(samples), batch)], workers)


def reading_workers(workers: int, decoding: bool = False) -> int:
    """Return the number of loading processes of one training process.

    As asked, or (-1) none beside a CPU, and beside a GPU its share of the cores, at most 16.

    Args:
        workers: `run.workers`.
        decoding: Files are decoded (the cache is built), which is worth every core.
    """
    cores = usable_cores()
    if workers >= 0:
        return workers
    if decoding:
        return cores
    return max(1, min(16, cores // torch.cuda.device_count())) if torch.cuda.is_available() else 0


def readable_rows(
    source: Tried, rows: Sequence[int] | np.ndarray, max_bad: float, where: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Return the rows whose file could be read, and the others with their reasons.

    Raises:
        DataError: A larger share than `max_bad` failed; the first reason is given.
    """
    reasons = source.reasons()
    good = np.array([row for row in rows if not reasons[row]], dtype=np.int64)
    bad = {int(row): reasons[row] for row in rows if reasons[row]}
    if len(bad) > max_bad * len(rows):
        raise DataError(f"{where}: {too_many_bad(len(bad), len(rows), max_bad)} The first: {next(iter(bad.values()))}")
    return good, bad


def _loader(dataset: Dataset, batches, workers: int) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_as_is,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        multiprocessing_context=START_METHOD if workers else None,
        worker_init_fn=_start_worker,
    )


def _tried(make: SampleMaker, sample: Sample) -> np.ndarray | dict[str, np.ndarray] | DataError:
    try:
        return make(sample)
    except DataError as error:
        return error


def _start_worker(number: int) -> None:
    one_thread()
    # So that it may have a process of its own that decodes (`Cases`), which ends with it.
    current_process().daemon = False


def _as_is(batch):
    return batch
