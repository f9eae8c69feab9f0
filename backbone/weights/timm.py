"""timm's Vision Transformers, whose names are ours: files, and networks that timm fetches when asked by name."""

import os

import torch
from torch import nn

from ...errors import UserError
from .reading import State
from .source import Source


def _ours(state: State, adapted: list[str]) -> State:
    """Some (DeiT III, DINOv2 with registers) have no position for their class token, which is a zero one."""
    table = state.get("pos_embed")
    if table is not None and "cls_token" in state and round(table.shape[1] ** 0.5) ** 2 == table.shape[1]:
        state["pos_embed"] = torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)
        adapted.append("zero position given to the class token")
    return state


TIMM = Source("timm", lambda state: True, _ours)


def is_timm_name(source: str) -> bool:
    """Whether `timm:NAME` or `hf-hub:OWNER/NAME` is meant, and not a file."""
    return source.startswith(("timm:", "hf-hub:"))


def fetch_network(source: str, **options) -> nn.Module:
    """A network of timm with its published weights, fetched from its hub unless they are kept already.

    Args:
        source: `timm:NAME`, or `hf-hub:OWNER/NAME`.
        options: Of `timm.create_model`.

    Raises:
        UserError: timm knows no such network, or the weights cannot be had.
    """
    import timm

    # Older timm asks for whole pickles in some paths; nothing in a weight file may run.
    os.environ.setdefault("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    name = source.removeprefix("timm:")
    if not name.startswith("hf-hub:") and not timm.is_model(name):
        raise UserError(f"{source}: timm knows no such network; `timm.list_models('*vit*')` names some.")
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # The hub's client raises a dozen kinds, all of which mean the same here.
        raise UserError(
            f"{source}: the weights could not be had ({' '.join(str(error).split())[:200]}). Without a network, put "
            "them into the hub's cache before, or name a checkpoint file."
        ) from None
