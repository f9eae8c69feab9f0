"""Predictors of pixels: files and arrays as they come, and cached cases; a case that fails is a row with its reason."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..core.errors import UserError
from ..core.pixels import normalised
from ..datasets.images.flat import FLAT, is_flat
from ..datasets.loading.cache import Pixels
from ..datasets.loading.loaders import Cases, eval_loader
from .array_predictor import ArrayPredictor, without_non_finite
from .classifier import Classifier, NearestNeighbours, TimmClassifier
from .model import ModelCard, predict_batch
from .scored import Scored

Values = Callable[[Tensor], Tensor]  # of (B, C, [T,] H, W) normalised input, (B, width)


class CachedPredictor:
    """Scores of cases whose pixels are kept.

    Args:
        network: In eval mode.
        card: Of the model.
        pixels: Where the cases are kept.
        rows: Of the cases in there.
        batch, workers: Views per batch, loading processes.
    """

    def __init__(
        self, network: nn.Module, card: ModelCard, pixels: Pixels, rows: Sequence[int] | np.ndarray, batch: int = 64,
        workers: int = 0,
    ):  # fmt: skip
        self.network, self.card, self.pixels, self.rows = network, card, pixels, np.asarray(rows)
        self.batch, self.workers = batch, workers

    def scores(self, cases: pd.DataFrame) -> Iterator[Scored]:
        """Yield the scores of all cases at once."""
        assert len(cases) == len(self.rows), "other cases than the rows of the cache"
        network, card, all_reasons = self.network, self.card, self.pixels.reasons()
        reasons = [all_reasons[row] for row in self.rows]
        good = np.flatnonzero([not reason for reason in reasons])
        scores = np.full((len(cases), len(card.labels)), np.nan)
        if len(good):
            device, views = next(network.parameters()).device, card.views()
            loader = eval_loader(Cases(self.pixels, self.rows[good], views), self.batch, self.workers, len(views))
            parts, flat = [], []
            for batch in loader:
                flat += [is_flat(image) for image in batch["image"].numpy()]
                pixels = normalised(batch["image"].to(device), card.mean, card.std)
                parts.append(predict_batch(network, pixels, card).cpu().numpy())
            scores[good] = np.concatenate(parts).reshape(len(good), len(views), -1).mean(axis=1)
            for row in good[np.reshape(flat, (len(good), len(views))).all(axis=1)]:
                reasons[row] = FLAT
        yield without_non_finite(range(len(cases)), scores, reasons)


class PixelPredictor(ArrayPredictor):
    """Scores of files, or of images in memory, by torch.

    Args:
        card: How the cases are read and shown.
        values_of: Scores of a batch, or whatever else is wanted of it.
        device: Where the pixels go.
        batch: Cases per batch.
        workers: Reading processes, at least one.
        width: Values per case; None for a score per label.
    """

    def __init__(
        self, card: ModelCard, values_of: Values, device: torch.device | str, batch: int = 32, workers: int = 1,
        width: int | None = None,
    ):  # fmt: skip
        super().__init__(card, self._of_images, batch, workers, width)
        self._of_pixels, self.device = values_of, device

    def _of_images(self, images: np.ndarray) -> np.ndarray:
        pixels = normalised(torch.from_numpy(images).to(self.device), self.card.mean, self.card.std)
        return self._of_pixels(pixels).float().cpu().numpy()


def model_predictor(
    network: nn.Module, card: ModelCard, batch: int = 32, workers: int = 1, bf16: bool = False
) -> PixelPredictor:
    """Return the predictor of a model.

    Args:
        network: In eval mode; on its device the scores are made.
        card: Of the model.
        batch: Cases per batch.
        workers: Reading processes.
        bf16: Matmuls in bfloat16, quicker where the processor has them, and scores that differ by up to about 0.01.
    """

    def scores(pixels: Tensor) -> Tensor:
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
            return predict_batch(network, pixels, card)

    return PixelPredictor(card, scores, next(network.parameters()).device, batch, workers)


def pooled_features(model: nn.Module) -> Values:
    """Return what gives (B, D) features of (B, C, [T,] H, W) normalised input: what the classifier's last layer sees.

    Raises:
        UserError: The network has no such features.
    """
    if isinstance(model, TimmClassifier):
        network: Any = model.network
        return lambda pixels: network.forward_head(network.forward_features(pixels), pre_logits=True)
    if isinstance(model, Classifier | NearestNeighbours):
        return model.features
    raise UserError("features are given by ViTs and timm networks; the ERDES baselines have none.")
