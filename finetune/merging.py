"""Several models that were fine-tuned from one encoder become one, without their data: arithmetic of weights.

Everything is said in differences from the common start: a model is `start + difference`. Models come one at a time, so
that memory holds the start, what is merged, and one more.

Sources: OPCM (Tang et al., NeurIPS 2025), task arithmetic (Ilharco et al., ICLR 2023), TIES (Yadav et al., NeurIPS
2023).
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..core.errors import UserError

Weights = dict[str, Tensor]
ALPHA = 0.5  # share of the singular values' sum that is shielded from the next model, as in the paper
TASK_COEFFICIENT = 0.3  # of every difference, as in fusion_bench
# Share of the largest values kept, and factor of the sum; fusion_bench: 0.5 model by model, 0.3 for all at once.
TIES_KEPT, TIES_COEFFICIENT = 0.2, 0.5


@dataclass
class Merge:
    """What came of merging.

    Attributes:
        weights: The merged weights, in the start's precision.
        norms: Length of each model's difference from the start, all weights together.
        factors: Of the orthogonal method, by how much each sum of differences was too long (lambda; 1 for the first).
    """

    weights: Weights
    norms: list[float] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)


def orthogonal(start: Weights, models: Iterable[Weights], linear: Collection[str], alpha: float = ALPHA) -> Merge:
    """Merge one model after the other, each without what would overwrite the directions merged before (OPCM).

    Of every linear layer the new difference T loses its part within the leading singular directions of the merged one M
    and along M's own directions: with M = U S V^T, U^T T V without its leading block and its diagonal. All weights are
    then shortened together, so that the sum is as far from the start as the models are on average. What is no linear
    layer adds up whole, also positions and class tokens, of which fusion_bench keeps the first model's alone.

    Args:
        start: Weights of the common start.
        models: Weights of each, with the start's names and shapes.
        linear: Names of weights of linear layers (m, n).
        alpha: How much of the sum of M's singular values is shielded, in 0..1.
    """
    merged: Weights = {}
    done = Merge({})
    for weights in models:
        new = differences(start, weights)
        done.norms.append(_norm(new))
        if not merged:
            merged, factor = new, 1.0
        else:
            before = done.factors[-1]
            for name, difference in new.items():
                rest = _beside(merged[name], difference, alpha) if name in linear else difference
                merged[name] = before * merged[name] + rest
            mean = sum(done.norms) / len(done.norms)
            factor = _norm(merged) / mean if mean else 1.0
            merged = {name: value / factor for name, value in merged.items()} if factor else merged
        done.factors.append(factor)
    done.weights = _added(start, merged)
    return done


def average(start: Weights, models: Iterable[Weights]) -> Merge:
    """Merge by the running average of all weights."""
    merged, norms = _zeros(start), []
    for count, weights in enumerate(models, start=1):
        new = differences(start, weights)
        norms.append(_norm(new))
        merged = {name: value + (new[name] - value) / count for name, value in merged.items()}
    return Merge(_added(start, merged), norms)


def task_arithmetic(start: Weights, models: Iterable[Weights], coefficient: float = TASK_COEFFICIENT) -> Merge:
    """Merge by the sum of all differences, each times a coefficient."""
    merged, norms = _zeros(start), []
    for weights in models:
        new = differences(start, weights)
        norms.append(_norm(new))
        merged = {name: value + coefficient * new[name] for name, value in merged.items()}
    return Merge(_added(start, merged), norms)


def ties(
    start: Weights, models: Iterable[Weights], kept: float = TIES_KEPT, coefficient: float = TIES_COEFFICIENT
) -> Merge:
    """Merge the largest values of each difference where they agree in sign; all models are held at once.

    Args:
        start: Weights of the common start.
        models: Weights of each.
        kept: Share of each difference that is kept, the largest in size.
        coefficient: Of the sum of those that have the sign of the greater mass.
    """
    found = [differences(start, weights) for weights in models]
    vectors = torch.stack([torch.cat([new[name].flatten() for name in start]) for new in found])
    rank = vectors.shape[1] - int(vectors.shape[1] * kept)
    least = vectors.abs().kthvalue(max(rank, 1), dim=1, keepdim=True).values
    vectors = torch.where(vectors.abs() >= least, vectors, 0)
    sign = vectors.sum(dim=0).sign()
    sign[sign == 0] = sign.sum().sign()
    total = torch.where(vectors.sign() == sign, vectors, 0).sum(dim=0)
    parts = (coefficient * total).split([value.numel() for value in start.values()])
    merged = {name: part.view(start[name].shape) for name, part in zip(start, parts, strict=True)}
    return Merge(_added(start, merged), [_norm(new) for new in found])


METHODS: dict[str, Callable[..., Merge]] = {
    "orthogonal": orthogonal,
    "average": average,
    "task-arithmetic": task_arithmetic,
    "ties": ties,
}


def differences(start: Weights, weights: Weights) -> Weights:
    """Return weights minus the start's, in double precision.

    Raises:
        UserError: Other names or shapes than the start's, or a weight that is not finite.
    """
    if {name: value.shape for name, value in weights.items()} != {name: value.shape for name, value in start.items()}:
        raise UserError("the weights are not those of the start's architecture.")
    if broken := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
        raise UserError(f"{broken[0]} has values that are not finite.")
    return {name: weights[name].double() - value.double() for name, value in start.items()}


def joined_heads(heads: Sequence[tuple[Sequence[str], Tensor, Tensor]]) -> tuple[list[str], Tensor, Tensor]:
    """Return labels, weights (L, D) and biases (L,) of a head that has each label of several heads once.

    A label that several have gets the mean of their rows.

    Args:
        heads: Of each model labels, weights and biases.
    """
    labels = list(dict.fromkeys(label for names, _, _ in heads for label in names))
    weights, biases = [], []
    for label in labels:
        rows = [(weight[list(names).index(label)], bias[list(names).index(label)])
                for names, weight, bias in heads if label in names]  # fmt: skip
        weights.append(torch.stack([weight for weight, _ in rows]).mean(dim=0))
        biases.append(torch.stack([bias for _, bias in rows]).mean(dim=0))
    return labels, torch.stack(weights), torch.stack(biases)


def _beside(merged: Tensor, new: Tensor, alpha: float) -> Tensor:
    """Return a difference (m, n) without its leading block and its diagonal in the singular directions of another.

    The same as with the full bases, but from the thin ones: what lies outside of them is kept whole.
    """
    if not merged.any():
        return new
    u, s, vh = torch.linalg.svd(merged, full_matrices=False)
    above = s.cumsum(0) / s.sum() > alpha
    rank = int(above.to(torch.uint8).argmax())
    block = u[:, :rank] @ (u[:, :rank].T @ new @ vh[:rank].T) @ vh[:rank]
    along = ((u[:, rank:].T @ new) * vh[rank:]).sum(dim=1)
    return new - block - (u[:, rank:] * along) @ vh[rank:]


def _norm(found: Weights) -> float:
    return float(sum(value.square().sum() for value in found.values()).sqrt()) if found else 0.0  # type: ignore[union-attr]


def _zeros(start: Weights) -> Weights:
    return {name: torch.zeros_like(value, dtype=torch.float64) for name, value in start.items()}


def _added(start: Weights, merged: Weights) -> Weights:
    return {name: (value.double() + merged[name]).to(value.dtype) for name, value in start.items()}
