"""Whether features become useful while they are trained: labels predicted from the nearest cases of other patients.

Labels are looked at and nothing is chosen by them.
"""

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import UserError
from ..datasets.loading.source import Source
from ..eval.statistics.metrics import auroc, macro
from .method import Method

CASES, BATCH = 1024, 64
NEIGHBOURS, TEMPERATURE = 20, 0.07  # DINO, eval_knn.py


class NeighbourCheck(Callback):
    """Log `knn` every few epochs: AUROC of the teacher's class tokens by k nearest neighbours, mean over the labels.

    A fixed sample of the training cases is used, of slides the same number of tiles each: a tile has its slide's label,
    and a slide's score is the mean of its tiles'. Neighbours of the same patient do not vote.

    Args:
        source: The cases, with labels in their manifest.
        every: Epochs between checks.
        seed: Of the sample.
    """

    def __init__(self, source: Source, every: int, seed: int):
        manifest = source.manifest
        if source.windowed:
            raise UserError("monitor looks at cases of all shards: set it to 0, or let all shards fit (--cache-gb).")
        self.every = every
        self.positions = _sample(source, np.random.default_rng(seed))
        self.cases = source.case_of(source.rows[self.positions])
        self.targets = manifest.targets()[self.cases]
        self.patients = manifest.table["patient"].factorize()[0][self.cases]
        if not any({0, 1} <= set(column) for column in self.targets.T):
            raise UserError(
                f"{manifest.path}: monitor needs a label that is 0 for some and 1 for other training cases; set "
                "monitor 0 to train without this check."
            )

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        """Log the check when it is due."""
        if not trainer.is_global_zero:
            return
        due = (trainer.current_epoch + 1) % self.every == 0
        value = self.check(pl_module) if due else float("nan")
        pl_module.log("knn", value, rank_zero_only=True)

    @torch.no_grad()
    def check(self, training: Method) -> float:
        """Return the mean AUROC by now."""
        features = []
        for start in range(0, len(self.positions), BATCH):
            images = training.without_augmentation(self.positions[start : start + BATCH])
            with training.trainer.precision_plugin.forward_context():
                features.append(training.kept(training.pixels({"image": images})).cls.float())
        return neighbour_auroc(torch.cat(features).cpu(), self.targets, self.patients, self.cases)


def neighbour_auroc(features: Tensor, targets: np.ndarray, patients: np.ndarray, cases: np.ndarray) -> float:
    """Return the mean AUROC over the labels, each case scored by its nearest neighbours among other patients.

    Args:
        features: (N, D).
        targets: (N, L) of 0, 1 and NaN.
        patients: (N,) whose they are; no neighbour is of the same.
        cases: (N,) what they are parts of; scores of one case are averaged.
    """
    directions = F.normalize(features, dim=1)
    similarity = directions @ directions.T
    similarity[torch.from_numpy(patients[:, None] == patients[None])] = -torch.inf
    found = []
    for target in targets.T:
        known = np.flatnonzero(~np.isnan(target))
        truth = torch.from_numpy(target[known])
        near, index = similarity[known][:, known].topk(min(NEIGHBOURS, len(known)))
        votes = ((near / TEMPERATURE).softmax(dim=1) * truth[index]).sum(dim=1).nan_to_num(0.5).numpy()
        _, first, place = np.unique(cases[known], return_index=True, return_inverse=True)
        scores = np.bincount(place, votes) / np.bincount(place)
        found.append(auroc(target[known][first, None], scores[:, None]))
    return macro(np.concatenate(found))[0]


def _sample(source: Source, rng: np.random.Generator) -> np.ndarray:
    """Return at most 1024 positions in the data set, as equal a number as there is of each case with a known label."""
    cases = source.case_of(source.rows)
    labelled = np.flatnonzero((~np.isnan(source.manifest.targets())).any(axis=1)[cases])
    order = rng.permutation(labelled)
    ranks = np.empty(len(order), np.int64)  # how many of the same case come before
    by_case = np.argsort(cases[order], kind="stable")
    _, starts, sizes = np.unique(cases[order][by_case], return_index=True, return_counts=True)
    ranks[by_case] = np.arange(len(order)) - np.repeat(starts, sizes)
    return order[np.argsort(ranks, kind="stable")][:CASES]
