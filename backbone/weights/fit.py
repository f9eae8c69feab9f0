"""Fit a state dict to a ViT's input and channels, and set it strictly."""

import torch
from torch import Tensor

from ...core.errors import UserError
from ..positions import position_table, resize_positions
from ..sizes import Architecture
from ..vit import ViT
from .architecture import depth_of
from .reading import State
from .recognise import Named, under_our_names
from .report import LoadReport, families

# What a ViT with more than ours would leave over, and whose absence would change every output.
NEEDED = (
    "blocks.", "reg_token", "register_tokens", "storage_tokens", "dist_token", "norm_pre.", "rope.", "patch_embed.",
    "pos_embed", "stem.",
)  # fmt: skip


def load_into(vit: ViT, state: State, grid: tuple[int, int, int] | None = None) -> LoadReport:
    """Set a ViT's weights from a state dict of any known source, fitted to its input, strictly.

    Args:
        vit: The model; every one of its parameters must be found.
        state: From `read_checkpoint`.
        grid: The token grid of the file's position table, where it is not square.

    Raises:
        UserError: Another width or depth, or a parameter is missing.
    """
    return set_weights(vit, under_our_names(state), grid)


def set_weights(vit: ViT, named: Named, grid: tuple[int, int, int] | None = None) -> LoadReport:
    """Load as `load_into` does, from a state dict under our names."""
    state, adapted = dict(named.state), list(named.adapted)
    if vit.pos_embed is not None:
        _fit_positions(vit, state, grid, adapted)
    elif vit.cls_token is None and state.pop("cls_token", None) is not None:
        adapted.append("class token dropped")
    _fit_channels(vit, state, adapted)
    own = vit.state_dict()
    if vit.stem is not None and not any(name.startswith("stem.") for name in state):
        state |= {name: own[name] for name in own if name.startswith("stem.")}
        adapted.append("the stem of convolutions is new, and gives zero at first")
    _refuse_missing(vit, state, [name for name in own if name not in state])
    for name, tensor in own.items():
        if state[name].shape != tensor.shape:
            raise UserError(
                f"{name} is {tuple(state[name].shape)} in the checkpoint and {tuple(tensor.shape)} in the model "
                f"(width {vit.arch.width}). Choose the model size that the checkpoint was made with."
            )
    left_over = tuple(name for name in state if name not in own)
    if needed := [name for name in left_over if name.startswith(NEEDED)]:
        if depth_of(state) != vit.arch.depth:
            raise UserError(
                f"the checkpoint has {depth_of(state)} blocks, the model {vit.arch.depth}. Choose its own model size."
            )
        raise UserError(f"the checkpoint has {needed[0]}, for which the model has no place: another kind of ViT.")
    vit.load_state_dict({name: state[name] for name in own})
    return LoadReport(named.source.name, len(own), tuple(adapted), left_over)


def _refuse_missing(vit: ViT, state: State, missing: list[str]) -> None:
    if not missing:
        return
    what = f"the checkpoint lacks {len(missing)} of the {len(vit.state_dict())} tensors of this model "
    what += f"({', '.join(families(missing))}). "
    if set(missing) == {"norm.weight", "norm.bias"}:
        raise UserError(
            f"{what}It pools the mean of unnormed tokens: fine-tune it in full, with pool mean or attention."
        )
    raise UserError(f"{what}Is it a {vit.arch.depth}-block ViT of the same kind?")


def fold_channels(weight: Tensor, channels: int) -> Tensor:
    """Return a patch projection (D, C, ...) for another number of channels.

    3 to 1: summed, exact for a grey image that stood in all three. 1 to 3: a third each, exact the other way.
    """
    if weight.shape[1] == channels:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    if weight.shape[1] == 1:
        return weight.repeat_interleave(channels, dim=1) / channels
    raise UserError(f"cannot bring a projection of {weight.shape[1]} channels to {channels}.")


def inflate(weight: Tensor, tubelet: int) -> Tensor:
    """Return an image's projection (D, C, p, p) for tubelets (D, C, t, p, p).

    The mean over frames, equal on a still clip.
    """
    return weight.unsqueeze(2).repeat_interleave(tubelet, dim=2) / tubelet


def _fit_positions(vit: ViT, state: State, grid: tuple[int, int, int] | None, adapted: list[str]) -> None:
    arch = vit.arch
    if "pos_embed" not in state:
        if arch.positions == "learned":
            return
        # VideoMAE stores no table. A flat index means other places on another grid, so that table is resampled too.
        table = position_table(arch.positions, grid or arch.grid, arch.width)
        before = torch.zeros(int("cls_token" in state), arch.width)
        state["pos_embed"] = torch.cat([before, table]).unsqueeze(0)
        adapted.append(f"positions are the {arch.positions} table")
    table = state["pos_embed"][0]
    extra = int("cls_token" in state)
    cls, table = table[:extra], table[extra:]
    if grid is None:
        grid = _guess_grid(len(table), arch)
    if grid != arch.grid:
        table = resize_positions(table, grid, arch.grid, arch.resize_offset, arch.resize_antialias, arch.resize_mode)
        adapted.append(f"positions resampled from {'x'.join(map(str, grid))} to {'x'.join(map(str, arch.grid))} tokens")
    if extra and not arch.class_token:
        adapted.append("class token dropped")
        state.pop("cls_token")
    state["pos_embed"] = torch.cat([cls, table] if arch.class_token else [table]).unsqueeze(0)


def _guess_grid(positions: int, arch: Architecture) -> tuple[int, int, int]:
    times, rows, columns = arch.grid
    if positions == times * rows * columns:
        return arch.grid
    side = round(positions**0.5)
    if side * side == positions:
        return 1, side, side
    side = round((positions / times) ** 0.5)
    if side * side * times == positions:
        return times, side, side
    raise UserError(f"the checkpoint has {positions} positions, which is no square grid: say which grid it has.")


def _fit_channels(vit: ViT, state: State, adapted: list[str]) -> None:
    name, arch = "patch_embed.proj.weight", vit.arch
    weight = state.get(name)
    if weight is None:
        return
    if weight.shape[1] != arch.channels:
        state[name] = weight = fold_channels(weight, arch.channels)
        adapted.append(f"patch projection folded to {arch.channels} channel{'s' if arch.channels > 1 else ''}")
    if weight.ndim == 4 and arch.tubelet > 1:
        state[name] = inflate(weight, arch.tubelet)
        adapted.append(f"patch projection inflated to tubelets of {arch.tubelet}")
