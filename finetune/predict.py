"""Scores for cached cases and for files as they come; a case that fails is a row with its reason, never a negative."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..datasets.cache import Files, PixelCache
from ..datasets.loading import Cases, eval_loader, opened
from ..errors import DataError
from .model import ModelCard, predict_batch


def normalised(images: Tensor, card: ModelCard, device: torch.device) -> Tensor:
    """(B, C, [T,] H, W) uint8 to normalised float on the device."""
    shape = (1, -1, *[1] * (images.ndim - 2))
    mean, std = (torch.tensor(values, device=device).view(shape) for values in (card.mean, card.std))
    return (images.to(device).float() / 255 - mean) / std


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
        parts = [predict_batch(model, normalised(b["image"], card, device), card).cpu().numpy() for b in loader]
        scores[good] = np.concatenate(parts).reshape(len(good), len(views), -1).mean(axis=1)
    return _refuse_non_finite(scores, reasons)


class _Files(Dataset):
    """Files one by one: (position, its views (V, C, [T,] S, S) or None, reason)."""

    def __init__(self, files: Sequence[Path], card: ModelCard):
        self.files, self.views = Files(files, card.reader()), card.views()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int):
        try:
            with opened(self.files, position) as pixels:
                views = np.concatenate([self.views(pixels, view) for view in range(len(self.views))])
            return position, torch.from_numpy(views), ""
        except DataError as error:
            return position, None, str(error)


def predict_files(
    model: nn.Module,
    card: ModelCard,
    files: Sequence[Path],
    batch: int = 32,
    workers: int = 0,
    progress: bool = True,
) -> tuple[np.ndarray, list[str]]:
    """Scores of files, read as they come; memory holds a few batches.

    Returns:
        (n, L) float64 probabilities (NaN where unreadable) and n reasons.
    """
    device = next(model.parameters()).device
    scores, reasons = np.full((len(files), len(card.labels)), np.nan), [""] * len(files)
    loader = DataLoader(_Files(files, card), batch_size=batch, num_workers=workers, collate_fn=list)
    with tqdm(total=len(files), desc="predicting", unit="file", disable=None if progress else True) as bar:
        for items in loader:
            for position, _, reason in items:
                reasons[position] = reason
            good = [(position, views) for position, views, reason in items if not reason]
            if good:
                images = torch.cat([views for _, views in good])
                part = predict_batch(model, normalised(images, card, device), card).cpu().numpy()
                scores[[position for position, _ in good]] = part.reshape(len(good), -1, len(card.labels)).mean(axis=1)
            bar.update(len(items))
    return _refuse_non_finite(scores, reasons)


def _refuse_non_finite(scores: np.ndarray, reasons: list[str]) -> tuple[np.ndarray, list[str]]:
    """A score that is not finite is a failure, not a number."""
    for row in np.flatnonzero(~np.isfinite(scores).all(axis=1)):
        reasons[row] = reasons[row] or "the model gave a score that is not a number"
        scores[row] = np.nan
    return scores, reasons
