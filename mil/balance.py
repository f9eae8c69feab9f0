"""Rare classes in training: losses weighted by class, or bags drawn so that every class comes equally often."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import DataError
from ..finetune.losses import known_mean

Criterion = Callable[[Tensor, Tensor], Tensor]


def weighted_criterion(targets: np.ndarray, labels: tuple[str, ...], exclusive: bool) -> Criterion:
    """Return a loss in which all classes weigh the same: each case by N / (classes x cases of its class).

    The mean is over cases, not over weights: with one bag a step that would take the weights out again.

    Args:
        targets: (N, L) of 0, 1 and NaN of the training cases.
        labels: L names, for messages.
        exclusive: Whether the labels exclude each other.

    Raises:
        DataError: A class without a case.
    """
    positive, known = (targets == 1).sum(axis=0), (~np.isnan(targets)).sum(axis=0)
    if exclusive:
        _refuse_empty(positive, labels, "")
        weights = torch.from_numpy(positive.sum() / (len(labels) * positive)).float()

        def cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
            rows = ~truth.isnan().any(dim=1)
            each = -(weights.to(truth.device) * truth.nan_to_num() * logits.float().log_softmax(dim=1)).sum(dim=1)
            return known_mean(each * rows, rows)

        return cross_entropy
    _refuse_empty(positive, labels, "")
    _refuse_empty(known - positive, labels, "no ")
    of_positive = torch.from_numpy(known / (2 * positive)).float()
    of_negative = torch.from_numpy(known / (2 * (known - positive))).float()

    def binary_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
        cells, values = ~truth.isnan(), truth.nan_to_num()
        weights = torch.lerp(of_negative.to(truth.device), of_positive.to(truth.device), values)
        each = F.binary_cross_entropy_with_logits(logits.float(), values, reduction="none")
        return known_mean(each * weights * cells, cells)

    return binary_cross_entropy


def draw_weights(targets: np.ndarray) -> np.ndarray:
    """Return (N,) chances, summing to 1, by which every pattern of labels is drawn equally often.

    Args:
        targets: (N, L) of 0, 1 and NaN of the training cases; unknown is a pattern of its own.
    """
    _, pattern, counts = np.unique(np.nan_to_num(targets, nan=-1), axis=0, return_inverse=True, return_counts=True)
    chances = 1 / counts[pattern.ravel()]
    return chances / chances.sum()


def _refuse_empty(counts: np.ndarray, labels: tuple[str, ...], what: str) -> None:
    if not counts.all():
        raise DataError(
            f"balance loss: no training case with {what}{labels[int(np.argmin(counts))]}: nothing to weigh."
        )
