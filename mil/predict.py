"""Scores of bags and of their instances; a bag that fails is a row with its reason, never a negative."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..core.errors import DataError
from ..datasets.slides.bags import BagFolder, Bags
from ..engine.cores import share_cores
from ..finetune.feature_limit import Limit
from ..finetune.objectives import objective
from ..finetune.scored import Scored
from .aggregator import Aggregated, Aggregator
from .limit import bag_mean
from .model import MilCard
from .score import bag_logits, instance_scores


@dataclass(frozen=True)
class BagPrediction:
    """What a model says of one bag of N instances.

    Attributes:
        row: Of the bags.
        probabilities: (C,) float64; NaN where it failed.
        attention: (A, N) float32, each map sums to 1 (A is C, or 1 shared by all classes); empty where it failed.
        instances: (N, C) float32 in 0..1 for localisation, as `score.instance_scores` defines them; of targets (N, L),
            the mean over the outputs of each.
        reason: Why there is no score; empty where there is one.
        warning: What there is to warn of where there is a score.
    """

    row: int
    probabilities: np.ndarray
    attention: np.ndarray
    instances: np.ndarray
    reason: str = ""
    warning: str = ""


class BagPredictor:
    """Scores of bags, one by one.

    Attributes:
        card: Of the model.
        found: What each bag gave beside its scores, in the order of the cases.

    Args:
        card: Of the model.
        predictions: Makes the prediction of each case.
    """

    def __init__(self, card: MilCard, predictions: Callable[[pd.DataFrame], Iterator[BagPrediction]]):
        self.card, self._predictions = card, predictions
        self.found: list[BagPrediction] = []

    def scores(self, cases: pd.DataFrame) -> Iterator[Scored]:
        """Yield the scores of one case after the other.

        Raises:
            DataError: The features are not for this model.
        """
        for bag in self._predictions(cases):
            self.found.append(bag)
            yield Scored([len(self.found) - 1], bag.probabilities[None], [bag.reason or bag.warning])


def predict_feature_files(
    model: Aggregator, card: MilCard, files: Sequence[Path], limit: Limit | None = None
) -> Iterator[BagPrediction]:
    """Predict single files of features; one of another width or encoder than the model's is failed."""
    for row, file in enumerate(files):
        try:
            (found,) = predict_mil(model, card, BagFolder([file.stem], file.parent, cache_gib=0), limit=limit)
            yield replace(found, row=row)
        except DataError as error:
            yield failed_bag(row, card, str(error))


def predict_mil(
    model: Aggregator, card: MilCard, bags: Bags, rows: Sequence[int] | None = None, limit: Limit | None = None
) -> Iterator[BagPrediction]:
    """Predict bags one by one, each with all its instances.

    Args:
        model: In eval mode.
        card: Of the model.
        bags: Of the width and encoder that the model was trained on.
        rows: Which bags; None for all.
        limit: Beyond which a bag is flagged as out of distribution (`limit.bag_limit`); None flags none.

    Raises:
        DataError: The features are not for this model.
    """
    card.check(bags, getattr(bags, "folder", None) or getattr(bags, "path", None) or "features")
    device = next(model.parameters()).device
    for row in range(len(bags)) if rows is None else rows:
        reason = bags.reasons()[row]
        if not reason:
            try:
                features = bags.bag(row)
            except DataError as error:
                reason = str(error)
        if reason:
            yield failed_bag(row, card, reason)
            continue
        found = _predicted(row, model, card, torch.from_numpy(features)[None].to(device))
        yield found if limit is None else replace(found, warning=_warning(limit, features))


def _warning(limit: Limit, features: np.ndarray) -> str:
    """Return what is said of a bag beyond the limit; empty of another."""
    (distance,) = limit.distances(bag_mean(features)[None])
    return limit.words(distance) if distance > limit.limit else ""


def bag_probabilities(out: Aggregated, mask: Tensor | None, card: MilCard) -> Tensor:
    """(B, S) scores of bags: of findings (B, C) probabilities."""
    return objective(card).activate(bag_logits(out, mask, card.score))


@torch.inference_mode()
def _predicted(row: int, model: Aggregator, card: MilCard, features: Tensor) -> BagPrediction:
    share_cores()
    out = model(features)
    scores = bag_probabilities(out, None, card)
    if not torch.isfinite(scores).all():
        return failed_bag(row, card, "the model gave a score that is not a number")
    # Of a number, a grade or a time there is no probability that a map could be scaled by.
    whole = torch.ones_like(out.logits) if card.targets else scores
    attention, instances = out.attention[0].float(), instance_scores(out, whole, model.localise)[0]
    if card.targets:
        own = instances.split([each.width for each in card.kinds], dim=1)
        instances = torch.cat([each.mean(dim=1, keepdim=True) for each in own], dim=1)
    return BagPrediction(
        row, scores[0].double().cpu().numpy(), attention.cpu().numpy(), instances.float().cpu().numpy()
    )


def failed_bag(row: int, card: MilCard, reason: str) -> BagPrediction:
    """Return the prediction of a bag that has none."""
    count = card.outputs
    empty = np.empty((0, count), np.float32)
    return BagPrediction(row, np.full(len(card.columns), np.nan), empty.reshape(count, 0), empty, reason)
