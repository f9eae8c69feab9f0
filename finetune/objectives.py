"""From the outputs of a network to a loss and to scores, for every kind of target: one value that training asks."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.label_groups import groups_of, parts_of
from ..datasets.manifest.targets import Ordinal, Regression, Survival, Target
from .answers import Answers
from .dense.loss import OfMaps
from .losses import known_mean, masked_bce, masked_cross_entropy


class Objective(Protocol):
    """What is asked of B cases, of which the network gives (B, O) outputs."""

    def loss(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Return the mean loss over what is known of (B, T) truth; NaN is unknown."""

    def activate(self, outputs: Tensor) -> Tensor:
        """Return (B, S) scores, as predictions.csv holds them."""


class Findings:
    """Labels of 0 and 1: findings that occur together, exclusive classes, or groups of such beside findings."""

    def __init__(self, exclusive: bool, labels: Sequence[str] = ()):
        self.exclusive = exclusive
        self.parts = parts_of(labels) if not exclusive and groups_of(labels) else []

    def loss(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Return the cross-entropy of (B, L) outputs over what is known; of groups and findings the sum of theirs."""
        if not self.parts:
            return (masked_cross_entropy if self.exclusive else masked_bce)(outputs, truth)
        return torch.stack(
            [
                (masked_cross_entropy if part.exclusive else masked_bce)(outputs[:, part.places], truth[:, part.places])
                for part in self.parts
            ]
        ).sum()

    def activate(self, outputs: Tensor) -> Tensor:
        """Return (B, L) probabilities, those of a group add up to 1."""
        if not self.parts:
            return probabilities(outputs, self.exclusive)
        parts = [probabilities(outputs[:, part.places], part.exclusive) for part in self.parts]
        order = np.argsort([place for part in self.parts for place in part.places])
        return torch.cat(parts, dim=1)[:, torch.from_numpy(order).to(outputs.device)]


class OfNumber:
    """A number: mean squared or absolute error of what is standardised by training."""

    def __init__(self, target: Regression):
        self.target = target

    def loss(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Return the mean error in standard deviations, squared for `mse`."""
        known = ~truth.isnan()
        wanted = (truth.double().nan_to_num(self.target.mean) - self.target.mean) / self.target.std
        gap = outputs.float() - wanted.float()
        return known_mean((gap.abs() if self.target.loss == "l1" else gap.square()) * known, known)

    def activate(self, outputs: Tensor) -> Tensor:
        """Return (B, 1) values in the unit of the manifest."""
        return outputs.float() * self.target.std + self.target.mean


class OfGrade:
    """A grade: CORN, a chain of conditional thresholds (Shi, Cao and Raschka 2021, arXiv:2111.08851)."""

    def __init__(self, target: Ordinal):
        self.target = target

    def loss(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Return the mean over thresholds k of the cross-entropy of `grade > k` among the cases of grade k or more."""
        steps = torch.arange(self.target.highest, device=truth.device)
        asked = truth >= steps  # NaN is in none
        each = F.binary_cross_entropy_with_logits(outputs.float(), (truth > steps).float(), reduction="none")
        return known_mean(each * asked, asked)

    def activate(self, outputs: Tensor) -> Tensor:
        """Return (B, K) probabilities of grade 1 or more, 2 or more, ...; they fall."""
        return F.logsigmoid(outputs.float()).cumsum(dim=1).exp()  # a running product, as ONNX has it


class OfHazards:
    """A time until an event: a hazard per interval (Gensheimer and Narasimhan 2019, PeerJ 7:e6257)."""

    def __init__(self, target: Survival):
        self.target = target

    def loss(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Return the mean negative log likelihood; a censored case has survived what it was seen half of or more."""
        ends = torch.tensor(self.target.times, device=truth.device, dtype=truth.dtype)
        begins = torch.cat([ends.new_zeros(1), ends[:-1]])
        time, event = truth[:, :1], truth[:, 1:] == 1
        died = event & (time > begins) & (time <= ends)
        died[:, 0] |= (event & (time <= 0))[:, 0]
        survived = torch.where(event, time > ends, time >= (begins + ends) / 2)
        asked = died | survived
        each = F.binary_cross_entropy_with_logits(outputs.float(), died.float(), reduction="none")
        known = ~truth.isnan().any(dim=1)
        return known_mean((each * asked).sum(dim=1) * known, known)

    def activate(self, outputs: Tensor) -> Tensor:
        """Return (B, 1 + J): the risk, minus the sum of what follows, and the event-free probabilities."""
        free = F.logsigmoid(-outputs.float()).cumsum(dim=1).exp()
        return torch.cat([-free.sum(dim=1, keepdim=True), free], dim=1)


class OfRisk:
    """A time until an event: Cox's partial likelihood among the cases of a batch, ties as by Breslow."""

    def __init__(self, target: Survival):
        self.target = target

    def loss(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Return the mean over the events of a batch; 0 where there is none."""
        risk, time, event = outputs.float()[:, 0], truth[:, 0], truth[:, 1] == 1
        among = time[None, :] >= time[:, None]  # NaN is in none
        whole = torch.where(among, risk[None, :], -torch.inf)
        each = torch.where(event, whole.masked_fill(~event[:, None], 0.0).logsumexp(dim=1) - risk, 0.0)
        return known_mean(each, event)

    def activate(self, outputs: Tensor) -> Tensor:
        """Return (B, 1 + J): the log hazard ratio, and the event-free probabilities by the baseline."""
        risk = outputs.float()
        times = self.target.times
        baseline = torch.tensor(self.target.baseline or [0.0] * len(times), device=risk.device)
        return torch.cat([risk, torch.exp(-baseline * risk.exp())], dim=1)


class Several:
    """Several targets beside each other: the sum of their losses, and all their scores."""

    def __init__(self, targets: Sequence[Target]):
        self.parts = [of_target(each) for each in targets]
        self.outputs = [each.width for each in targets]
        self.truths = [len(each.truth) for each in targets]

    def loss(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Return the sum of the targets' losses."""
        parts = zip(self.parts, outputs.split(self.outputs, dim=1), truth.split(self.truths, dim=1), strict=True)
        losses = [part.loss(own, known) for part, own, known in parts]
        return torch.stack(losses).sum()

    def activate(self, outputs: Tensor) -> Tensor:
        """Return the scores of all targets beside each other."""
        parts = zip(self.parts, outputs.split(self.outputs, dim=1), strict=True)
        return torch.cat([part.activate(own) for part, own in parts], dim=1)


def of_target(target: Target) -> Objective:
    """Return what a target asks of a network."""
    if isinstance(target, Regression):
        return OfNumber(target)
    if isinstance(target, Ordinal):
        return OfGrade(target)
    assert isinstance(target, Survival)
    return OfRisk(target) if target.loss == "cox" else OfHazards(target)


def objective(card: Answers) -> Objective:
    """Return what a model's card asks of its network."""
    if dense := getattr(card, "dense", None):
        return OfMaps(dense["edge_px"], dense["edge_weight"])
    return Several(card.kinds) if getattr(card, "targets", ()) else Findings(card.exclusive, card.labels)


def summarised(card: Answers) -> Callable[[Tensor], Tensor]:
    """Return what makes (B, L) numbers that maps explain of (B, O) outputs: logits, of targets `summary`."""
    kinds = getattr(card, "kinds", ())
    if not kinds:
        return lambda outputs: outputs
    activate, widths = Several(kinds).activate, [len(each.columns) for each in kinds]

    def values(outputs: Tensor) -> Tensor:
        parts = activate(outputs).split(widths, dim=1)
        return torch.stack([each.summary(own) for each, own in zip(kinds, parts, strict=True)], dim=1)

    return values


def probabilities(logits: Tensor, exclusive: bool) -> Tensor:
    """(B, L) probabilities: softmax of exclusive classes, else sigmoids."""
    logits = logits.float()
    return logits.softmax(dim=1) if exclusive else logits.sigmoid()


def quality(targets: Sequence[Target], truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean over targets of what an epoch is chosen by: 1 is perfect, about 0 is chance.

    Lin's concordance of numbers, the quadratic weighted kappa of grades, 2 C - 1 of times (Harrell's C).

    Args:
        targets: As trained.
        truth: (N, T), NaN where unknown.
        scores: (N, S).
    """
    from ..eval.targets.quality import quality_of

    widths, truths = [len(each.columns) for each in targets], [len(each.truth) for each in targets]
    found = []
    for target, own, known in zip(targets, _parted(scores, widths), _parted(truth, truths), strict=True):
        rows = ~np.isnan(known).any(axis=1)
        found.append(quality_of(target, known[rows], own[rows]))
    return float(np.mean(found))


def with_baseline(target: Survival, risk: np.ndarray, truth: np.ndarray) -> Survival:
    """Return a target with Breslow's cumulative baseline hazard at its times.

    Args:
        target: Learned by `cox`.
        risk: (N,) log hazard ratios of the training cases.
        truth: (N, 2) times and events.
    """
    known = ~np.isnan(truth).any(axis=1)
    risk, (time, event) = risk[known].astype(np.float64), truth[known].T
    at = np.unique(time[event == 1])
    steps = [((time == t) & (event == 1)).sum() / np.exp(risk[time >= t]).sum() for t in at]
    hazard = np.concatenate([[0.0], np.cumsum(steps)])
    found = hazard[np.searchsorted(at, target.times, side="right")]
    return replace(target, baseline=tuple(float(value) for value in found))


def _parted(values: np.ndarray, widths: Sequence[int]) -> list[np.ndarray]:
    return np.split(values, list(accumulate(widths))[:-1], axis=1)
