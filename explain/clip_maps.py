"""Maps of where a ViT looked in a clip, frame by frame, on the frames of the file."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ..backbone.vit import ViT
from ..core.pixels import normalised
from ..datasets.loading.cache import Files, opened
from ..datasets.loading.readers import Reader
from ..datasets.video.region import Region
from ..finetune.classifier import Classifier
from ..finetune.model import ModelCard
from ..finetune.objectives import summarised
from .maps import Extent, seen_px
from .relevance import relevance_maps


class ClipMaps(NamedTuple):
    """Where the model looked in one clip.

    Attributes:
        maps: (K, T, gh, gw) float32, at least 0.
        frames: T increasing indices from 0 of the frames of the file.
        extent_px: Left, top, right and bottom of the maps in px of a frame as it is read.
        width_px, height_px: Of a frame.
    """

    maps: np.ndarray
    frames: tuple[int, ...]
    extent_px: Extent
    width_px: int
    height_px: int


def clip_maps(
    model: nn.Module, card: ModelCard, file: Path, targets: np.ndarray, reader: Reader | None = None
) -> ClipMaps | None:
    """Return the gradient-weighted attention of the middle view of a clip; None for networks that are no ViT.

    A token covers several frames of the model's input: they share its map. A frame that the model saw twice has the
    higher of its maps. Of a clip that is read cropped the maps lie where the crop lies in the whole frame.

    Args:
        model: A model of clips, in eval mode.
        card: Its card.
        file: The clip.
        targets: (K,) int64, indices of the labels.
        reader: Where it crops to boxes, one that knows them (`readers.with_boxes`); None for the card's.

    Raises:
        DataError: The clip cannot be read.
    """
    from ..datasets.video.clips import open_clip

    if not isinstance(model, Classifier) or not isinstance(model.encoder, ViT) or card.clip.sampling == "volume":
        return None
    with open_clip(file) as clip:
        times_s, (height, width) = clip.times, clip.size
    view = card.views().single()
    with opened(Files([file], reader or card.reader()), 0) as pixels:
        image, length, region = view(pixels), len(pixels), pixels.region
    x = normalised(torch.from_numpy(image).to(next(model.parameters()).device), card.mean, card.std)
    wanted = torch.from_numpy(targets[None]).to(x.device)
    maps = relevance_maps(model, x, wanted, "gradient", summarised(card))[0].cpu().numpy()
    maps = maps.repeat(card.arch.tubelet, axis=1)
    seen = view.frames_of(length)
    if card.clip.fps is not None:
        seen = np.abs(times_s[None] - seen[:, None] / card.clip.fps).argmin(axis=1)
    frames = np.unique(seen)
    joined = np.stack([maps[:, seen == frame].max(axis=1) for frame in frames], axis=1)
    return ClipMaps(joined, tuple(map(int, frames)), _extent(card, width, height, region), width, height)


def _extent(card: ModelCard, width: int, height: int, region: Region | None) -> Extent:
    """Return left, top, right and bottom of the model's view in px of the whole frame."""
    if region is None:
        return seen_px(card, width, height)
    assert (region.width_px, region.height_px) == (width, height), "a region of another frame"
    seen = seen_px(card, region.right - region.left, region.bottom - region.top)
    return seen[0] + region.left, seen[1] + region.top, seen[2] + region.left, seen[3] + region.top
