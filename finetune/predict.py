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
from ..datasets.loading.cache import PixelCache, Pixels
from ..datasets.loading.loaders import Cases, eval_loader
from .array_predictor import ArrayPredictor, warning_of, without_non_finite
from .classifier import Classifier, NearestNeighbours, TimmClassifier
from .model import ModelCard, predict_batch
from .out_of_distribution import Limit, Watched, last_layer, with_features
from .scored import Predictor, Scored, score_width

Values = Callable[[Tensor], Tensor]  # of (B, C, [T,] H, W) normalised input, (B, width)


class CachedPredictor:
    """Scores of cases whose pixels are kept.

    Args:
        network: In eval mode.
        card: Of the model.
        pixels: Where the cases are kept.
        rows: Of the cases in there.
        batch, workers: Views per batch, loading processes.
        values_of, width: As of `PixelPredictor`; None for the scores.
    """

    def __init__(
        self, network: nn.Module, card: ModelCard, pixels: Pixels, rows: Sequence[int] | np.ndarray, batch: int = 64,
        workers: int = 0, values_of: Values | None = None, width: int | None = None,
    ):  # fmt: skip
        self.network, self.card, self.pixels, self.rows = network, card, pixels, np.asarray(rows)
        self.batch, self.workers = batch, workers
        self.values_of = scores_of(network, card) if values_of is None else values_of
        self.width = score_width(card) if width is None else width

    def scores(self, cases: pd.DataFrame) -> Iterator[Scored]:
        """Yield the scores of all cases at once."""
        assert len(cases) == len(self.rows), "other cases than the rows of the cache"
        card, all_reasons = self.card, self.pixels.reasons()
        reasons = [all_reasons[row] for row in self.rows]
        good = np.flatnonzero([not reason for reason in reasons])
        scores = np.full((len(cases), self.width), np.nan)
        if len(good):
            device, views = next(self.network.parameters()).device, card.views()
            loader = eval_loader(Cases(self.pixels, self.rows[good], views), self.batch, self.workers, len(views))
            parts, flat = [], []
            for batch in loader:
                flat += [is_flat(image) for image in batch["image"].numpy()]
                pixels = normalised(batch["image"].to(device), card.mean, card.std)
                parts.append(self.values_of(pixels).cpu().numpy())
            scores[good] = np.concatenate(parts).reshape(len(good), len(views), -1).mean(axis=1)
            for row in good[np.reshape(flat, (len(good), len(views))).all(axis=1)]:
                reasons[row] = FLAT
        regions = self.pixels.regions() if isinstance(self.pixels, PixelCache) else []
        own = [regions[row] for row in self.rows] if any(regions) else []
        for row in good if own else ():
            reasons[row] = warning_of(reasons[row] == FLAT, False, own[row])
        scored = without_non_finite(range(len(cases)), scores, reasons, good)
        yield scored._replace(regions=["" if region is None else region.text() for region in own])


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
    network: nn.Module, card: ModelCard, batch: int = 32, workers: int = 1, bf16: bool = False,
    limit: Limit | None = None,
) -> Predictor:  # fmt: skip
    """Return the predictor of a model.

    Args:
        network: In eval mode; on its device the scores are made.
        card: Of the model.
        batch: Cases per batch.
        workers: Reading processes.
        bf16: Matmuls in bfloat16, quicker where the processor has them, and scores that differ by up to about 0.01.
        limit: Beyond which a case is flagged as out of distribution (`read_limit`); None flags none.
    """
    values, width = watched_values(network, scores_of(network, card, bf16), limit)
    device = next(network.parameters()).device
    predictor = PixelPredictor(card, values, device, batch, workers, score_width(card) + width)
    return predictor if limit is None else Watched(predictor, limit)


def cached_predictor(
    network: nn.Module, card: ModelCard, pixels: Pixels, rows: Sequence[int] | np.ndarray, limit: Limit | None = None
) -> Predictor:
    """Return the predictor of a model for cases whose pixels are kept; see `model_predictor`."""
    values, width = watched_values(network, scores_of(network, card), limit)
    predictor = CachedPredictor(network, card, pixels, rows, values_of=values, width=score_width(card) + width)
    return predictor if limit is None else Watched(predictor, limit)


def scores_of(network: nn.Module, card: ModelCard, bf16: bool = False) -> Values:
    """Return what gives the (B, L) probabilities of a model."""

    def scores(pixels: Tensor) -> Tensor:
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
            return predict_batch(network, pixels, card)

    return scores


def watched_values(network: nn.Module, scores: Values, limit: Limit | None) -> tuple[Values, int]:
    """Return what gives the scores, and features behind them where there is a limit; and how many features."""
    layer = None if limit is None else last_layer(network)
    return (scores, 0) if layer is None else (with_features(scores, layer), layer.in_features)


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
