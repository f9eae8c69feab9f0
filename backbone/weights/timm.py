"""timm's Vision Transformers, whose names are ours."""

import torch

from .reading import State
from .source import Source


def _ours(state: State, adapted: list[str]) -> State:
    """Add the zero position that some (DeiT III, DINOv2 with registers) leave out for their class token."""
    table = state.get("pos_embed")
    if table is not None and "cls_token" in state and round(table.shape[1] ** 0.5) ** 2 == table.shape[1]:
        state["pos_embed"] = torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)
        adapted.append("zero position given to the class token")
    return state


TIMM = Source("timm", lambda state: True, _ours)
