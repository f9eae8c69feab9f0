"""Published checkpoints of the ERDES baselines: the network is told by its names, then set strictly."""

from pathlib import Path

import torch
from torch import nn

from ...backbone.weights import LoadReport, State, read_checkpoint
from ...errors import UserError
from .networks import NETWORKS, REGISTRY, VolumeClassifier

# The last layer of each kind of network, whose rows are the labels.
LAST = ("cls.fc2.weight", "classification_head.weight", "model.fc.weight", "model.last_linear.weight")
# What the published networks hold and never use (see `VolumeClassifier`), as parts of names.
UNUSED = (
    "cross_attn", "enc.vit.norm.", "enc.vit.blocks.10.", "enc.vit.blocks.11.", "enc.encoder", "enc.last_linear.",
)  # fmt: skip


def published_network(state: State) -> str | None:
    """Which baseline a state dict holds; None if none.

    Args:
        state: From `read_checkpoint`, with the published prefix `net.` or without.
    """
    state = _names(state)
    if not any(name in state for name in LAST):
        return None
    for name in NETWORKS:
        for pool in _pools(name):
            if all(own in state and state[own].shape == tensor.shape for own, tensor in _empty(name, pool, state)):
                return name
    return None


def load_published(path: str | Path, pool_ratio: float | None = None) -> tuple[str, VolumeClassifier, LoadReport]:
    """Name and network of a published checkpoint, in eval mode.

    Args:
        path: Lightning's `.ckpt` or safetensors.
        pool_ratio: Share of the time steps that a network with selective pooling averages: it leaves no trace in the
            tensors of most networks. None: the mean of all.

    Raises:
        UserError: It is none of the baselines, or holds more than they have.
    """
    state = _names(read_checkpoint(path))
    name = published_network(state)
    if name is None:
        raise UserError(f"{path}: none of the networks of ERDES for 96 frames of 128 px ({', '.join(NETWORKS)}).")
    pool = {"pool": "mean"} if pool_ratio is None else {"pool": "topk", "pool_ratio": pool_ratio}
    try:
        model = VolumeClassifier(name, _labels(state), **pool)
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from None
    own = model.state_dict()
    if missing := [key for key in own if key not in state]:
        raise UserError(f"{path}: {name} with pool {pool['pool']} has {missing[0]}, the file has not.")
    left_over = tuple(key for key in state if key not in own)
    if strange := [key for key in left_over if not any(part in key for part in UNUSED)]:
        raise UserError(f"{path}: {name} has no place for {strange[0]}: not the published network.")
    model.load_state_dict({key: state[key] for key in own})
    return name, model.eval(), LoadReport("erdes", len(own), (), left_over)


def _names(state: State) -> State:
    return {name.removeprefix("net."): value for name, value in state.items()}


def _labels(state: State) -> int:
    return next(len(state[name]) for name in LAST if name in state)


def _pools(name: str) -> tuple[str, ...]:
    """Pools with which a network has other names."""
    return ("mean", "topk") if REGISTRY[name].complete else ("mean",)


def _empty(name: str, pool: str, state: State) -> list[tuple[str, torch.Tensor]]:
    with torch.device("meta"):
        model: nn.Module = VolumeClassifier(name, _labels(state), pool=pool)
    return list(model.state_dict().items())
