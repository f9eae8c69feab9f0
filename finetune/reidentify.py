"""A head that links the images of a patient, on frozen features, by CLIP-ReIdent's loss.

Habel et al. 2022 ("CLIP-ReIdent", MMSports; KonradHabel/clip_reid): two images of one identity per item, no identity
twice in a batch, features of length 1, a learned scale that starts at ln(1 / 0.07), the mean of the cross-entropies
both ways with label smoothing 0.1. It is judged on patients that it has not seen.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..datasets.manifest.splits import patient_folds

SMOOTHING, START = 0.1, math.log(1 / 0.07)
WIDTH, EPOCHS, BATCH, RATE, DECAY = 128, 60, 32, 2e-3, 1e-2
FOLDS = 5
LEAST_PATIENTS = 10  # with two images, to train a head and to judge it
# Trains on some rows, and gives the vectors of others: (rows to learn from, rows that are wanted, seed).
Fit = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def info_nce(queries: Tensor, gallery: Tensor, scale: Tensor, smoothing: float = SMOOTHING) -> Tensor:
    """Return the symmetric contrastive loss of (B, D) pairs.

    Args:
        queries: First images, of length 1.
        gallery: Second images of the same patients, in the same order.
        scale: Logarithm of the factor of the cosines.
        smoothing: Of the labels.
    """
    logits = scale.exp() * queries @ gallery.T
    target = torch.arange(len(logits), device=logits.device)
    loss = lambda values: F.cross_entropy(values, target, label_smoothing=smoothing)
    return (loss(logits) + loss(logits.T)) / 2


def pairs_of_patients(patients: Sequence[str], batch: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield (b, 2) rows of an epoch: two images of each patient who has two, no patient twice in a batch."""
    names, who = np.unique(np.asarray(patients, str), return_inverse=True)
    rows = [np.flatnonzero(who == place) for place in range(len(names))]
    several = [each for each in rows if len(each) > 1]
    order = draw.permutation(len(several))
    for start in range(0, len(order), batch):
        chosen = [draw.permutation(several[place])[:2] for place in order[start : start + batch]]
        if len(chosen) > 1:  # one pair alone has nothing to be told from
            yield np.array(chosen)


class Head(nn.Module):
    """A linear map of standardised features to vectors of length 1."""

    def __init__(self, mean: Tensor, std: Tensor, width: int = WIDTH):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.linear = nn.Linear(len(mean), width, bias=False)
        self.scale = nn.Parameter(torch.tensor(START))

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.linear((features - self.mean) / self.std), dim=1)


def train_head(features: np.ndarray, patients: Sequence[str], seed: int) -> Head:
    """Train a head on (N, D) features of images whose patients are named."""
    values = torch.from_numpy(np.asarray(features, np.float32))
    torch.manual_seed(seed)
    head = Head(values.mean(dim=0), values.std(dim=0).clamp_min(1e-6))
    optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
    draw = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        for rows in pairs_of_patients(patients, BATCH, draw):
            loss = info_nce(head(values[rows[:, 0]]), head(values[rows[:, 1]]), head.scale)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.eval()


class HeadFit:
    """Fits a head on frozen features.

    Args:
        features: (N, D) of N images.
        patients: Their N names.
    """

    def __init__(self, features: np.ndarray, patients: Sequence[str]):
        self.features, self.patients = np.asarray(features, np.float32), np.asarray(patients, str)

    def __call__(self, learn: np.ndarray, wanted: np.ndarray, seed: int) -> np.ndarray:
        """Return (n, WIDTH) vectors of the rows that are wanted by a head that was trained on other rows."""
        head = train_head(self.features[learn], self.patients[learn].tolist(), seed)
        with torch.inference_mode():
            return head(torch.from_numpy(self.features[wanted])).numpy()


def linked_features(fit: Fit, patients: Sequence[str], seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, of each fold of patients, its rows and their vectors by what was trained on the other patients.

    Args:
        fit: Trains, and gives vectors.
        patients: N names.
        seed: Of folds, training and batches.

    Returns:
        Rows and (n, WIDTH) vectors by fold; empty where fewer than `LEAST_PATIENTS` patients have two images.
    """
    if not enough_patients(patients):
        return []
    fold = patient_folds(pd.DataFrame({"patient": list(patients)}), (), FOLDS, seed).to_numpy()
    inside = [np.flatnonzero(fold == number) for number in range(FOLDS)]
    return [(rows, fit(np.flatnonzero(fold != number), rows, seed + number)) for number, rows in enumerate(inside)]


def enough_patients(patients: Sequence[str]) -> bool:
    """Return whether enough patients have two images to train on some and to judge on others."""
    return int((np.unique(np.asarray(patients, str), return_counts=True)[1] > 1).sum()) >= LEAST_PATIENTS
