"""Many small aggregators trained at once on one table of bags, each on its own part of it.

All see the same bags in the same order; the bags that a model must not see have no loss for it. One vectorised step
(torch.func.vmap) moves all of them, which on small bags is an order of magnitude faster than one model after another.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from ..datasets.slides.bag_table import BagTable
from ..datasets.slides.bags import pad_bags
from ..engine.allocation import keep_freed_memory
from ..engine.optim import make_optimizer
from ..engine.recipe import Optim
from ..engine.schedule import optim_rate, scaled_rate
from ..finetune.losses import masked_bce, masked_cross_entropy
from .recipe import Mil, build_aggregator
from .score import bag_logits

EVAL_BATCH, LIKE = 16, 4
WASTED = 2000  # instances of padding in a batch, from which on it is computed in parts


def train_many(
    bags: BagTable, recipe: Mil, members: np.ndarray, seed: int, on_epoch: Callable[[], None] = lambda: None
) -> np.ndarray:
    """Train many models together; return the logits of each model for every bag after every epoch.

    Args:
        bags: The table.
        recipe: The recipe of all models; epochs, schedule and batches count as if each were trained alone.
        members: (M, B) True where a model is trained on a bag. Features are standardised by these bags alone.
        seed: Seed of weights, order and dropout.
        on_epoch: Called after every epoch.

    Returns:
        (epochs, M, B, C) float32.
    """
    optim = recipe.optim
    torch.manual_seed(seed)
    models = [build_aggregator(recipe, bags.width, len(bags.labels)) for _ in members]
    parameters, _ = stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")
    scale = _standards(bags, members)
    targets = torch.from_numpy(np.where(members[:, :, None], bags.targets, np.nan).astype(np.float32))
    peak = scaled_rate(optim.base_lr, optim.batch_size)
    optimizer = make_optimizer(_groups(parameters, optim), optim, peak)
    criterion = masked_cross_entropy if recipe.loss == "ce" else masked_bce
    draw = np.random.default_rng(seed)
    keep_freed_memory()
    groups = [rows for group in np.array_split(*_by_size(bags)) for rows in _parts(bags, group)]
    ready = [(rows, *_padded(bags, rows)) for rows in groups]

    def loss(parameters: dict, mean: Tensor, std: Tensor, target: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        x = (features - mean) / std
        out = functional_call(base, parameters, (x, mask))
        return base.loss(out, target, mask, criterion)

    def score(parameters: dict, mean: Tensor, std: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        out = functional_call(base, parameters, ((features - mean) / std, mask))
        return bag_logits(out, mask, recipe.score)

    losses = vmap(loss, in_dims=(0, 0, 0, 0, None, None), randomness="different")
    scores = vmap(score, in_dims=(0, 0, 0, None, None))
    logits = np.empty((optim.epochs, len(members), len(bags), len(bags.labels)), dtype=np.float32)
    for epoch in range(optim.epochs):
        base.train()
        batches = _batches(bags, optim.batch_size, draw)
        for step, rows in enumerate(batches):
            rate = optim_rate(optim, epoch + step / len(batches))
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            for part in _parts(bags, rows):
                features, mask = _padded(bags, part)
                mask = _some_instances(mask, recipe.instance_dropout)
                value = losses(parameters, *scale, targets[:, part], features, mask)
                (value * _share(targets, part, rows)).sum().backward()
            if optim.clip_norm is not None:
                _clip(parameters, optim.clip_norm)
            optimizer.step()
        base.eval()
        with torch.no_grad():
            for rows, features, mask in ready:
                logits[epoch][:, rows] = scores(parameters, *scale, features, mask).numpy()
        on_epoch()
    return logits


def _standards(bags: BagTable, members: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return (M, D) mean and standard deviation of the instances that each model is trained on."""
    instances = torch.from_numpy(members[:, np.repeat(np.arange(len(bags)), np.diff(bags.offsets))]).double()
    features = torch.from_numpy(bags.features).double()
    count = instances.sum(dim=1, keepdim=True)
    mean = instances @ features / count
    std = (instances @ features.square() / count - mean.square()).clamp(min=0).sqrt()
    return mean.float(), torch.where(std > 1e-6 * mean.abs().clamp(min=1e-6), std, 1.0).float()


def _groups(parameters: dict[str, Tensor], optim: Optim) -> list[dict]:
    """Return the optimiser's groups: weight matrices decay, all else as `decay_biases` says.

    The first dimension counts models.
    """
    matrices = [parameter for parameter in parameters.values() if parameter.ndim > 2]
    others = [parameter for parameter in parameters.values() if parameter.ndim <= 2]
    return [
        {"params": group, "lr_scale": 1.0, "weight_decay": decay}
        for group, decay in ((matrices, optim.weight_decay), (others, optim.weight_decay * optim.decay_biases))
        if group
    ]


def _batches(bags: BagTable, batch: int, draw: np.random.Generator) -> list[np.ndarray]:
    """Return the rows of the batches of an epoch; bags of similar size share a batch, for less padding."""
    sizes, order = np.diff(bags.offsets), draw.permutation(len(bags))
    parts = np.array_split(order, -(-len(bags) // (LIKE * batch)))
    ranked = np.concatenate([part[np.argsort(sizes[part], kind="stable")] for part in parts])
    batches = np.array_split(ranked, -(-len(bags) // batch))
    return [batches[i] for i in draw.permutation(len(batches))]


def _by_size(bags: BagTable) -> tuple[np.ndarray, int]:
    """Return the rows from the smallest bag to the largest, and the number of batches for evaluation."""
    return np.argsort(np.diff(bags.offsets), kind="stable"), -(-len(bags) // EVAL_BATCH)


def _parts(bags: BagTable, rows: np.ndarray) -> list[np.ndarray]:
    """Return the rows of a batch in parts of like size where one large bag would pad all others to its own."""
    sizes = np.diff(bags.offsets)[rows]
    if sizes.max() * len(rows) - sizes.sum() <= WASTED:
        return [rows]
    order = np.argsort(sizes, kind="stable")
    parts: list[list[int]] = []
    for place in order:
        if not parts or sizes[place] > LIKE * sizes[parts[-1][0]]:
            parts.append([])
        parts[-1].append(place)
    return [rows[part] for part in parts]


def _share(targets: Tensor, part: np.ndarray, rows: np.ndarray) -> Tensor:
    """Return (M,) the share of a batch's known targets that a part of it has, of each model."""
    known = ~targets[:, rows].isnan()
    own = ~targets[:, part].isnan()
    return own.sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp(min=1)


def _padded(bags: BagTable, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    return pad_bags([bags.bag(int(row)) for row in rows])


def _some_instances(mask: Tensor, dropout: float) -> Tensor:
    """Leave out each instance with this probability; keep at least one of a bag."""
    if not dropout:
        return mask
    luck = torch.rand(mask.shape).masked_fill(~mask, -1)
    return mask & ((luck >= dropout) | (luck == luck.amax(dim=1, keepdim=True)))


def _clip(parameters: dict[str, Tensor], most: float) -> None:
    """Scale the gradient of each model down to the norm."""
    gradients: list[Any] = [parameter.grad for parameter in parameters.values()]
    squares: Any = sum(grad.flatten(1).square().sum(dim=1) for grad in gradients)
    factor = (most / squares.sqrt().clamp(min=1e-12)).clamp(max=1)
    for grad in gradients:
        grad.mul_(factor.view(-1, *[1] * (grad.ndim - 1)))
