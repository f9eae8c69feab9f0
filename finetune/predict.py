"""Scores for cached cases and for files as they come; a case that fails is a row with its reason, never a negative."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..core.errors import DataError, UserError
from ..core.pixels import normalised
from ..datasets.loading.cache import PixelCache
from ..datasets.loading.isolation import isolated
from ..datasets.loading.loaders import Cases, eval_loader
from ..datasets.transforms.views import FileViews
from .classifier import Classifier, NearestNeighbours, TimmClassifier
from .model import ModelCard, predict_batch


def predict_cached(
    model: nn.Module, card: ModelCard, cache: PixelCache, rows: np.ndarray, batch: int = 64, workers: int = 0
) -> tuple[np.ndarray, list[str]]:
    """Scores of rows of a cache.

    Returns:
        (n, L) float64 probabilities (NaN where unreadable) and n reasons.
    """
    device = next(model.parameters()).device
    all_reasons = cache.reasons()
    reasons = [all_reasons[row] for row in rows]
    good = np.array([i for i, reason in enumerate(reasons) if not reason], dtype=np.int64)
    scores = np.full((len(rows), len(card.labels)), np.nan)
    if len(good):
        views = card.views()
        loader = eval_loader(Cases(cache, np.asarray(rows)[good], views), batch, workers, len(views))
        pixels = (normalised(batch["image"].to(device), card.mean, card.std) for batch in loader)
        parts = [predict_batch(model, each, card).cpu().numpy() for each in pixels]
        scores[good] = np.concatenate(parts).reshape(len(good), len(views), -1).mean(axis=1)
    return _refuse_non_finite(scores, reasons)


class FileScores(NamedTuple):
    """What became of some files.

    Attributes:
        positions: n places among the files asked for, in order.
        scores: (n, L) float64 probabilities, NaN where there are none.
        reasons: n texts, empty where a file went well.
    """

    positions: list[int]
    scores: np.ndarray
    reasons: list[str]


def predict_stream(
    model: nn.Module, card: ModelCard, files: Sequence[Path], batch: int = 32, workers: int = 1, bf16: bool = False
) -> Iterator[FileScores]:
    """Scores of files, batch after batch, read as they come; memory holds a few batches. `bf16`: matmuls in bfloat16,
    quicker where the processor has them, and scores that differ by up to about 0.01.
    """

    def scores(pixels: Tensor) -> Tensor:
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
            return predict_batch(model, pixels, card)

    return stream(scores, len(card.labels), model, card, files, batch, workers)


def stream(
    values_of: Callable[[Tensor], Tensor], width: int, model: nn.Module, card: ModelCard, files: Sequence[Path],
    batch: int = 32, workers: int = 1,
) -> Iterator[FileScores]:  # fmt: skip
    """What a function makes of the views of files, averaged over the views of each.

    Args:
        values_of: (B, C, [T,] H, W) normalised input to (B, `width`).
        width: Values per file.
        model: On whose device it happens.
        card: How files are read and shown.
        files: N files.
        batch: Files per batch.
        workers: Reading processes, at least one: a decoder that dies or hangs over a file costs that file only.
    """
    device = next(model.parameters()).device
    ahead = max(4, 2 * batch // max(1, workers))
    read = isolated(FileViews(card.reader(), card.views()), files, workers, ahead=ahead)
    for start in range(0, len(files), batch):
        items = list(islice(read, batch))
        reasons = [str(item) if isinstance(item, DataError) else "" for item in items]
        values = np.full((len(items), width), np.nan)
        good = [place for place, reason in enumerate(reasons) if not reason]
        if good:
            images = torch.from_numpy(np.concatenate([items[place] for place in good]))
            part = values_of(normalised(images.to(device), card.mean, card.std)).float().cpu().numpy()
            values[good] = part.reshape(len(good), -1, width).mean(axis=1)
        yield FileScores(list(range(start, start + len(items))), *_refuse_non_finite(values, reasons))


def pooled_features(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """What gives (B, D) features of (B, C, [T,] H, W) normalised input: what the classifier's last layer sees.

    Raises:
        UserError: The network has no such features.
    """
    if isinstance(model, TimmClassifier):
        network = model.network
        return lambda pixels: network.forward_head(network.forward_features(pixels), pre_logits=True)
    if isinstance(model, Classifier | NearestNeighbours):
        return model.features
    raise UserError("features are given by ViTs and timm networks; the ERDES baselines have none.")


def predict_files(
    model: nn.Module,
    card: ModelCard,
    files: Sequence[Path],
    batch: int = 32,
    workers: int = 1,
    progress: bool = True,
) -> tuple[np.ndarray, list[str]]:
    """Scores of files, all at once.

    Returns:
        (n, L) float64 probabilities (NaN where unreadable) and n reasons.
    """
    scores, reasons = np.full((len(files), len(card.labels)), np.nan), [""] * len(files)
    with tqdm(total=len(files), desc="predicting", unit="file", disable=None if progress else True) as bar:
        for found in predict_stream(model, card, files, batch, workers):
            scores[found.positions] = found.scores
            for position, reason in zip(found.positions, found.reasons, strict=True):
                reasons[position] = reason
            bar.update(len(found.positions))
    return scores, reasons


def _refuse_non_finite(scores: np.ndarray, reasons: list[str]) -> tuple[np.ndarray, list[str]]:
    """A score that is not finite is a failure, not a number."""
    for row in np.flatnonzero(~np.isfinite(scores).all(axis=1)):
        reasons[row] = reasons[row] or "the model gave a score that is not a number"
        scores[row] = np.nan
    return scores, reasons
