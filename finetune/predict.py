"""Scores for cached cases and for files as they come; a case that fails is a row with its reason, never a negative."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..datasets.augment import build_eval
from ..datasets.cache import PixelCache, load_pixels
from ..datasets.loading import PictureDataset, eval_loader
from ..errors import DataError
from .model import ModelCard, predict_batch


def eval_transform(card: ModelCard):
    """The evaluation transform of a card."""
    return build_eval(
        card.arch.image_size[0], card.view.resize_px if card.view.mode == "crop" else None, card.view.mode
    )


def normalised(images: Tensor, card: ModelCard, device: torch.device) -> Tensor:
    """(B, C, H, W) uint8 to normalised float on the device."""
    mean = torch.tensor(card.mean, device=device).view(1, -1, 1, 1)
    std = torch.tensor(card.std, device=device).view(1, -1, 1, 1)
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
        dataset = PictureDataset(cache, np.asarray(rows)[good], eval_transform(card))
        parts = [
            predict_batch(model, normalised(b["image"], card, device), card).cpu().numpy()
            for b in eval_loader(dataset, batch, workers)
        ]
        scores[good] = np.concatenate(parts)
    return _refuse_non_finite(scores, reasons)


class _Files(Dataset):
    """Files one by one: (position, picture or None, reason)."""

    def __init__(self, files: Sequence[Path], card: ModelCard):
        self.files, self.cache_px, self.transform = list(files), card.cache_px, eval_transform(card)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int):
        try:
            picture = self.transform(load_pixels(self.files[position], self.cache_px), 0)
            return position, picture, ""
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
            good = [(position, picture) for position, picture, reason in items if not reason]
            if good:
                images = torch.from_numpy(np.stack([picture for _, picture in good])).unsqueeze(1)
                part = predict_batch(model, normalised(images, card, device), card).cpu().numpy()
                scores[[position for position, _ in good]] = part
            bar.update(len(items))
    return _refuse_non_finite(scores, reasons)


def _refuse_non_finite(scores: np.ndarray, reasons: list[str]) -> tuple[np.ndarray, list[str]]:
    """A score that is not finite is a failure, not a number."""
    for row in np.flatnonzero(~np.isfinite(scores).all(axis=1)):
        reasons[row] = reasons[row] or "the model gave a score that is not a number"
        scores[row] = np.nan
    return scores, reasons
