"""Parameter groups with layer-wise learning-rate decay, and the optimiser that the recipe names."""

import re
from collections.abc import Collection, Iterable

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from ..core.errors import UserError
from .recipe import Optim


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    weight_decay: float,
    layer_decay: float = 1.0,
    depth: int = 0,
    no_decay: Collection[str] = (),
    decay_biases: bool = False,
) -> list[dict]:
    """Return groups with `lr_scale` and `weight_decay`, one per layer and kind (MAE, util/lr_decay.py).

    Args:
        named: Names and parameters; frozen ones are left out. A leading `encoder.` is ignored.
        weight_decay: For matmuls; 0 for one-dimensional parameters and those named in `no_decay`.
        layer_decay: Scale of a layer over the one above it; the head has 1.
        depth: Blocks of the encoder.
        no_decay: Names that are never decayed.
        decay_biases: One-dimensional parameters are decayed, too.
    """
    groups: dict[tuple[int, bool], dict] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        name = name.removeprefix("encoder.")
        layer = layer_of(name, depth)
        decayed = (decay_biases or parameter.ndim > 1) and name not in no_decay
        group = groups.setdefault(
            (layer, decayed),
            {
                "params": [],
                "names": [],
                "lr_scale": layer_decay ** (depth + 1 - layer),
                "weight_decay": weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def layer_of(name: str, depth: int) -> int:
    """Return 0 for the embedding, i + 1 for block i, depth + 1 for whatever comes after."""
    if name in ("cls_token", "reg_token", "pos_embed") or name.startswith(("patch_embed.", "norm_pre.", "rope.")):
        return 0
    block = re.match(r"blocks\.(\d+)\.", name)
    return int(block[1]) + 1 if block else depth + 1


def make_optimizer(groups: list[dict], optim: Optim, rate: float, fused: bool = True) -> Optimizer:
    """Return the optimiser, each group at `rate` times its scale; `fused` is quicker, but bears no loss scaling."""
    groups = [{key: value for key, value in g.items() if key != "names"} | {"lr": rate * g["lr_scale"]} for g in groups]
    if optim.optimizer == "adamw":
        return AdamW(groups, lr=rate, betas=optim.betas, fused=fused)
    if optim.optimizer == "adam":
        return Adam(groups, lr=rate, betas=optim.betas, fused=fused)
    if optim.optimizer == "lars":
        from timm.optim import Lars

        return Lars(groups, lr=rate, momentum=0.9)
    raise UserError(f"unknown optim.optimizer {optim.optimizer!r}; known: adamw, adam, lars.")
