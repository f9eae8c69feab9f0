"""Scores of bags and of their instances; a bag that fails is a row with its reason, never a negative."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..core.errors import DataError
from ..datasets.slides.bags import Bags
from ..finetune.model import probabilities
from .aggregator import Aggregated, Aggregator
from .model import MilCard
from .score import bag_logits, instance_scores


@dataclass(frozen=True)
class BagPrediction:
    """What a model says of one bag of N instances.

    Attributes:
        row: Of the bags.
        probabilities: (C,) float64; NaN where it failed.
        attention: (A, N) float32, each map sums to 1 (A is C, or 1 shared by all classes); empty where it failed.
        instances: (N, C) float32 in 0..1 for localisation, as `score.instance_scores` defines them.
        reason: Why there is no score; empty where there is one.
    """

    row: int
    probabilities: np.ndarray
    attention: np.ndarray
    instances: np.ndarray
    reason: str = ""


def predict_mil(
    model: Aggregator, card: MilCard, bags: Bags, rows: Sequence[int] | None = None
) -> Iterator[BagPrediction]:
    """Predict bags one by one, each with all its instances.

    Args:
        model: In eval mode.
        card: Of the model.
        bags: Of the width and encoder that the model was trained on.
        rows: Which bags; None for all.

    Raises:
        DataError: The features are not for this model.
    """
    card.check(bags, getattr(bags, "folder", None) or getattr(bags, "path", "features"))
    device = next(model.parameters()).device
    for row in range(len(bags)) if rows is None else rows:
        reason = bags.reasons()[row]
        if not reason:
            try:
                features = torch.from_numpy(bags.bag(row))[None].to(device)
            except DataError as error:
                reason = str(error)
        yield _failed(row, card, reason) if reason else _predicted(row, model, card, features)


def score_bags(
    model: Aggregator, card: MilCard, bags: Bags, rows: Sequence[int], progress: bool = True
) -> tuple[np.ndarray, list[str]]:
    """(n, C) float64 probabilities of bags (NaN where they failed) and n reasons."""
    scores, reasons = np.full((len(rows), len(card.labels)), np.nan), [""] * len(rows)
    found = predict_mil(model, card, bags, rows)
    for i, bag in enumerate(tqdm(found, "predicting", len(rows), unit="bag", disable=None if progress else True)):
        scores[i], reasons[i] = bag.probabilities, bag.reason
    return scores, reasons


def bag_probabilities(out: Aggregated, mask: Tensor | None, card: MilCard) -> Tensor:
    """(B, C) probabilities of bags."""
    return probabilities(bag_logits(out, mask, card.score), card.exclusive)


@torch.inference_mode()
def _predicted(row: int, model: Aggregator, card: MilCard, features: Tensor) -> BagPrediction:
    out = model(features)
    scores = bag_probabilities(out, None, card)
    if not torch.isfinite(scores).all():
        return _failed(row, card, "the model gave a score that is not a number")
    attention, instances = out.attention[0].float(), instance_scores(out, scores, model.localise)[0]
    return BagPrediction(
        row, scores[0].double().cpu().numpy(), attention.cpu().numpy(), instances.float().cpu().numpy()
    )


def _failed(row: int, card: MilCard, reason: str) -> BagPrediction:
    count = len(card.labels)
    empty = np.empty((0, count), np.float32)
    return BagPrediction(row, np.full(count, np.nan), empty.reshape(count, 0), empty, reason)
