"""Weights in: read a checkpoint without running its code, bring its names to ours, fit it to a ViT, report the rest.

One adapter per source. Our names are timm's, so most sources only need a wrapper or a prefix taken off.
"""

import argparse
import pickle
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..errors import UserError
from .positions import position_table, resize_positions
from .sizes import SIZES, Architecture
from .vit import ViT

State = dict[str, Tensor]
WRAPPERS = ("state_dict", "model", "module", "model_state_dict", "teacher", "student")
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "vit.")


@dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint's tensors.

    Attributes:
        source: `mae`, `timm`, `thorax-mae`, `videomae`, `dino` or `clinvit`.
        loaded: How many tensors of the ViT were set.
        adapted: What was changed on the way, in words.
        left_over: Names in the file that the ViT has no place for (a decoder, a head).
    """

    source: str
    loaded: int
    adapted: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"loaded {self.loaded} tensors (source: {self.source})"]
        lines += [f"adapted: {text}" for text in self.adapted]
        if self.left_over:
            lines.append(f"left over ({len(self.left_over)}): {', '.join(_families(self.left_over))}")
        return "; ".join(lines)


def read_checkpoint(path: str | Path) -> State:
    """The tensors of a safetensors or PyTorch file, wrappers and common prefixes taken off.

    No code of the file is run: pickles are read by PyTorch's restricted reader, which knows tensors, plain values
    and (as MAE's files hold one) `argparse.Namespace`, and refuses everything else.

    Raises:
        UserError: No such file, not a checkpoint, truncated, or a pickle that asks for code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file.")
    if path.suffix == ".safetensors":
        try:
            content = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise UserError(f"{path}: not a readable safetensors file ({error}). Copy or download it again.") from None
    else:
        content = _read_pickle(path)
    state = _unwrap(content)
    if not state:
        raise UserError(f"{path}: holds no weights (a dict of tensors, alone or under {', '.join(WRAPPERS[:3])}).")
    return state


def recognise(state: State) -> str:
    """Which source a state dict has, judged by its names."""
    names = set(state)
    if any(name.endswith("attn.q_bias") for name in names):
        return "videomae"
    if "mask_token" in names and "decoder_pred.weight" in names:
        return "mae"
    if "fc_norm.weight" in names and "pos_embed" in names:
        return "thorax-mae"
    if any(name.startswith("head.last_layer.") for name in names):
        return "dino"
    return "timm"


def infer_architecture(state: State, heads: int | None = None) -> Architecture:
    """The architecture that a state dict of our names was made with.

    Args:
        state: Names as timm's.
        heads: Attention heads. They leave no trace in the shapes: by default what the papers use at this width.

    Raises:
        UserError: It is no ViT, or the width has no customary number of heads.
    """
    try:
        kernel = state["patch_embed.proj.weight"]
        hidden, width = state["blocks.0.mlp.fc1.weight"].shape
    except KeyError as error:
        raise UserError(
            f"the checkpoint has no {error.args[0]}: not a plain ViT with timm's names. "
            f"It starts with: {', '.join(sorted(state)[:4])}"
        ) from None
    table = state.get("pos_embed")
    depth = 1 + max(int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.", name)))
    heads = heads or {w: h for w, d, h, _ in SIZES.values()}.get(width)
    if heads is None:
        raise UserError(f"width {width} is no published size: say how many attention heads it has (heads=...).")
    patch, tubelet = kernel.shape[-1], kernel.shape[2] if kernel.ndim == 5 else 1
    extra = int("cls_token" in state)
    frames, side = tubelet, 224 // patch
    if table is not None and kernel.ndim == 4:
        side = round((table.shape[1] - extra) ** 0.5)
        if side * side != table.shape[1] - extra:
            raise UserError(f"{table.shape[1] - extra} positions are no square grid: convert it where it was made.")
    elif kernel.ndim == 5:
        frames = 16
    return Architecture(
        width, depth, heads, hidden / width, (side * patch, side * patch), patch, frames, tubelet,
        kernel.shape[1], bool(extra), "learned" if table is not None else "sine1d",
        0.1 if recognise(state) == "dino" else 0.0,
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
    source = recognise(state)
    state, adapted = dict(state), []
    if source == "videomae":
        state = join_biases(state)
        adapted.append("query and value biases joined")
    _fit_positions(vit, state, grid, adapted)
    _fit_channels(vit, state, adapted)
    own = vit.state_dict()
    missing = [name for name in own if name not in state]
    if missing:
        raise UserError(
            f"the checkpoint lacks {len(missing)} of the {len(own)} tensors of this model "
            f"({', '.join(_families(missing))}). Is it a {vit.arch.depth}-block ViT of the same kind?"
        )
    for name, tensor in own.items():
        if state[name].shape != tensor.shape:
            raise UserError(
                f"{name} is {tuple(state[name].shape)} in the checkpoint and {tuple(tensor.shape)} in the model "
                f"(width {vit.arch.width}). Choose the model size that the checkpoint was made with."
            )
    left_over = tuple(name for name in state if name not in own)
    if any(name.startswith("blocks.") for name in left_over):
        deeper = infer_architecture(state, vit.arch.heads).depth
        raise UserError(f"the checkpoint has {deeper} blocks, the model {vit.arch.depth}. Choose its own model size.")
    vit.load_state_dict({name: state[name] for name in own})
    return LoadReport(source, len(own), tuple(adapted), left_over)


def fold_channels(weight: Tensor, channels: int) -> Tensor:
    """A patch projection (D, C, ...) for another number of channels.

    3 to 1: summed, exact for a grey picture that stood in all three. 1 to 3: a third each, exact the other way.
    """
    if weight.shape[1] == channels:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    if weight.shape[1] == 1:
        return weight.repeat_interleave(channels, dim=1) / channels
    raise UserError(f"cannot bring a projection of {weight.shape[1]} channels to {channels}.")


def inflate(weight: Tensor, tubelet: int) -> Tensor:
    """A picture's projection (D, C, p, p) for tubelets (D, C, t, p, p): the mean over frames, equal on a still clip."""
    return weight.unsqueeze(2).repeat_interleave(tubelet, dim=2) / tubelet


def _read_pickle(path: Path) -> object:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked:
            raise UserError(
                f"{path}: refused: the file asks to run `{asked[1]}` when it is opened, and weights need no code. "
                "Ask its makers for safetensors."
            ) from None
        raise UserError(f"{path}: not a readable PyTorch checkpoint. Copy or download it again.") from None
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a readable PyTorch checkpoint ({reason}). Copy or download it again.") from None


def _unwrap(content: object) -> State:
    """Down to the dict of tensors, then without the prefixes that wrappers of models leave."""
    while isinstance(content, dict) and (key := next((k for k in WRAPPERS if isinstance(content.get(k), dict)), None)):
        content = content[key]
    if not isinstance(content, dict):
        return {}
    state = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    # The patch projection, by which a ViT is known, tells which prefixes stand before the names.
    projection = next((name for name in state if name.endswith("patch_embed.proj.weight")), "")
    while prefix := next((prefix for prefix in PREFIXES if projection.startswith(prefix)), None):
        projection = projection.removeprefix(prefix)
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def join_biases(state: State) -> State:
    """VideoMAE keeps query and value biases apart and has no key bias: join them, the key's being zero."""
    out = {}
    for name, value in state.items():
        if name.endswith("attn.q_bias"):
            v_bias = state[name.replace("q_bias", "v_bias")]
            out[name.replace("q_bias", "qkv.bias")] = torch.cat([value, torch.zeros_like(value), v_bias])
        elif not name.endswith("attn.v_bias"):
            out[name] = value
    return out


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
        table = resize_positions(table, grid, arch.grid, arch.resize_offset)
        adapted.append(f"positions resampled from {'x'.join(map(str, grid))} to {'x'.join(map(str, arch.grid))} tokens")
    if extra and not arch.class_token:
        adapted.append("class token dropped")
        state.pop("cls_token")
    state["pos_embed"] = torch.cat([cls, table] if arch.class_token else [table]).unsqueeze(0)


def _guess_grid(positions: int, arch: Architecture) -> tuple[int, int, int]:
    slots, rows, columns = arch.grid
    if positions == slots * rows * columns:
        return arch.grid
    side = round(positions**0.5)
    if side * side == positions:
        return 1, side, side
    side = round((positions / slots) ** 0.5)
    if side * side * slots == positions:
        return slots, side, side
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


def _families(names: Iterable[str]) -> list[str]:
    """`decoder_blocks.0.attn.qkv.weight`, ... as `decoder_blocks.* (24)`: short enough to read."""
    counts: dict[str, int] = {}
    for name in names:
        family = name.split(".", 1)[0]
        counts[family] = counts.get(family, 0) + 1
    return [f"{family}.* ({count})" if count > 1 else family for family, count in counts.items()]
