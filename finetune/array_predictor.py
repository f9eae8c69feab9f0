"""Predictor of files and images in memory as arrays: without torch, for graphs and `clinvit-runtime` too."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..core.errors import DataError, UserError
from ..datasets.images.colour import LOST_COLOUR
from ..datasets.images.flat import FLAT, is_flat
from ..datasets.loading.isolation import isolated
from ..datasets.loading.readers import ImageReader, Reader, with_boxes
from ..datasets.transforms.views import EvalView, FileViews
from ..datasets.video.region import Region
from .scored import PredictorCard, Scored, score_width


class PixelsCard(PredictorCard, Protocol):
    """What is asked of the card of a model of images or clips; see `ModelCard`."""

    @property
    def mean(self) -> tuple[float, ...]: ...

    @property
    def std(self) -> tuple[float, ...]: ...

    def reader(self) -> Reader: ...

    def views(self) -> EvalView: ...


class ArrayPredictor:
    """Scores of files, or of images in memory, batch after batch, read as they come; memory holds a few batches.

    Args:
        card: How the cases are read and shown.
        values_of: Scores (B, width) of a batch (B, C, [T,] H, W) uint8, or whatever else is wanted of it.
        batch: Cases per batch.
        workers: Reading processes, at least one: a decoder that dies or hangs over a file costs that file only.
        width: Values per case; None for a score per label.
    """

    def __init__(
        self, card: PixelsCard, values_of: Callable[[np.ndarray], np.ndarray], batch: int = 32, workers: int = 1,
        width: int | None = None,
    ):  # fmt: skip
        self.card, self.values_of, self.batch, self.workers = card, values_of, batch, workers
        self.width = score_width(card) if width is None else width

    def scores(self, cases: Any) -> Iterator[Scored]:
        """Yield the values of the cases, averaged over the views of each.

        Args:
            cases: Columns or DataFrame of N rows with `path`; or with `id` and `image`, an image in memory
                (`ArrayReader`).
        """
        read = self._views_in_memory(cases) if "image" in cases else self._file_views(cases)
        done = 0
        while items := list(islice(read, self.batch)):
            reasons = [str(item) if isinstance(item, DataError) else "" for item in items]
            regions = [""] * len(items)
            values = np.full((len(items), self.width), np.nan)
            good = [position for position, reason in enumerate(reasons) if not reason]
            if good:
                part = self.values_of(np.concatenate([items[position][0] for position in good]))
                values[good] = part.reshape(len(good), -1, self.width).mean(axis=1)
            for place in good:
                views, lost_colour, region = items[place]
                reasons[place] = warning_of(is_flat(views), lost_colour, region)
                regions[place] = "" if region is None else region.text()
            scored = without_non_finite(range(done, done + len(items)), values, reasons, good)
            yield scored._replace(regions=regions if any(regions) else ())
            done += len(items)

    def _file_views(self, cases: Any) -> Iterator:
        ahead = max(4, 2 * self.batch // max(1, self.workers))
        views = FileViews(with_boxes(self.card.reader(), cases), self.card.views())
        return isolated(views, [Path(path) for path in cases["path"]], self.workers, ahead=ahead)

    def _views_in_memory(self, cases: Any) -> Iterator:
        from ..datasets.loading.arrays import ArrayReader, InMemory

        reader = self.card.reader()
        if not isinstance(reader, ImageReader):
            raise UserError("a model of clips, which are read from files: give paths.")
        views = FileViews(ArrayReader(**asdict(reader)), self.card.views())
        for name, image in zip(cases["id"], cases["image"], strict=True):
            try:
                yield views(InMemory(name, image))
            except DataError as error:
                yield error


def warning_of(flat: bool, lost_colour: bool, region: Region | None) -> str:
    """Return what there is to warn of in a case that has a score; empty where there is nothing."""
    whole = "" if region is None else region.whole
    return "; ".join(filter(None, [FLAT if flat else LOST_COLOUR if lost_colour else "", whole]))


def without_non_finite(
    positions: Sequence[int], scores: np.ndarray, reasons: list[str], read: Sequence[int] | np.ndarray
) -> Scored:
    """A score that is not finite is a failure, not a number; the reasons of cases that were `read` are warnings."""
    wrong = ~np.isfinite(scores).all(axis=1)
    for row in read:
        if wrong[row]:
            reasons[row] = "the model gave a score that is not a number"
    scores[wrong] = np.nan
    return Scored(positions, scores, reasons)
