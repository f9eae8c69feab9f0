"""Maps of where a model looked in images as they come from files, and which part of an image such a map covers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..core.errors import DataError
from ..core.pixels import normalised
from ..datasets.loading.cache import Files, opened
from ..finetune.model import ModelCard
from ..finetune.objectives import summarised
from .relevance import relevance_maps

Extent = tuple[float, float, float, float]


class Explained(NamedTuple):
    """One image.

    Attributes:
        position: Index among the files asked for.
        maps: (K, gh, gw) float32, at least 0; None if the image could not be read.
        extent_px: Left, top, right and bottom of the maps in px of the image as it is read.
        width_px: Width of that image.
        height_px: Its height.
        reason: Why there is no map; empty if there is one.
    """

    position: int
    maps: np.ndarray | None
    extent_px: Extent = (0, 0, 0, 0)
    width_px: int = 0
    height_px: int = 0
    reason: str = ""


def seen_px(card: ModelCard, width_px: int, height_px: int) -> Extent:
    """Return left, top, right and bottom of the part of an image that the model's centre view shows, in its px.

    A padded view shows more than the image: its edges are negative or beyond the size.

    Args:
        card: The card of a model of images.
        width_px: Width of the image as it is read.
        height_px: Its height.
    """
    view = card.views()
    left, right = _seen_along(width_px, min(width_px, height_px), max(width_px, height_px), view, card.cache_px)
    top, bottom = _seen_along(height_px, min(width_px, height_px), max(width_px, height_px), view, card.cache_px)
    return left, top, right, bottom


def _seen_along(side: int, shorter: int, longer: int, view, cache_px: int) -> tuple[float, float]:
    """Return start and end along one side, rounded as `datasets.images.radiographs` and `datasets.transforms` round."""
    if view.mode == "squash":
        return 0.0, float(side)
    shrink = min(1.0, cache_px / shorter)
    cached, least, most = (each if shrink == 1 else round(each * shrink) for each in (side, shorter, longer))
    if view.mode == "crop":
        wanted = view.resize_px or view.size
        resized = max(wanted, int(cached * (wanted / least)))
        start = round((resized - view.size) / 2)
    else:
        resized = max(1, round(cached * (view.size / most)))
        start = -((view.size - resized) // 2)
    return start / resized * side, (start + view.size) / resized * side


class _CentreViews(Dataset):
    """Images one by one: (position, (1, C, S, S) uint8 or None, (width, height) px, reason)."""

    def __init__(self, files: Sequence[Path], card: ModelCard):
        self.files, self.view = Files(files, card.reader()), card.views().single()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int):
        from ..datasets.images.radiographs import radiograph_size

        try:
            height, width = radiograph_size(self.files.files[position])
            with opened(self.files, position) as pixels:
                return position, torch.from_numpy(self.view(pixels).copy()), (width, height), ""
        except DataError as error:
            return position, None, (0, 0), str(error)


def explain_files(
    model: nn.Module,
    card: ModelCard,
    files: Sequence[Path],
    targets: np.ndarray,
    method: str = "gradient",
    batch: int = 8,
    workers: int = 0,
) -> Iterator[Explained]:
    """Yield the maps of files, one after the other; memory holds one batch and its gradients.

    Of a model that averages several views or the mirror image, the unchanged centre view is explained.

    Args:
        model: A model of images, in eval mode.
        card: Its card.
        files: N files.
        targets: (N, K) int64, indices of the labels or targets to explain.
        method: See `relevance_maps`.
        batch: Files per batch.
        workers: Reading processes.
    """
    device, values = next(model.parameters()).device, summarised(card)
    loader = DataLoader(_CentreViews(files, card), batch_size=batch, num_workers=workers, collate_fn=list)
    with tqdm(total=len(files), desc="explaining", unit="file", disable=None) as bar:
        for items in loader:
            good = [(position, pixels) for position, pixels, _, reason in items if not reason]
            maps = {}
            if good:
                positions = [position for position, _ in good]
                x = normalised(torch.cat([pixels for _, pixels in good]).to(device), card.mean, card.std)
                wanted = torch.from_numpy(np.ascontiguousarray(targets[positions])).to(device)
                maps = dict(zip(positions, relevance_maps(model, x, wanted, method, values).cpu().numpy()))
            for position, _, (width, height), reason in items:
                if reason:
                    yield Explained(position, None, reason=reason)
                else:
                    yield Explained(position, maps[position], seen_px(card, width, height), width, height)
            bar.update(len(items))
