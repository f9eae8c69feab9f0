"""A foreign checkpoint opened: its tensors under our names, its architecture and the input it was trained on."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ...core.documents import read_json
from ...core.errors import UserError, about
from ..sizes import Architecture
from ..vit import ViT
from . import hugging_face, run_folder, timm_folder
from .architecture import architecture_of, assumptions
from .fit import set_weights
from .layout import one_layout
from .reading import State, read_checkpoint, read_folder
from .recognise import Named, under_our_names
from .report import LoadReport
from .said import NOTHING, Said
from .timm import TIMM
from .timm_network import timm_fields, timm_state


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        named: Tensors under our names.
        arch: Architecture.
        mean, std: What pixels in 0..1 are normalised with, one value per channel.
        assumed_statistics: Whether these are only what is usual for the source: the file states none.
    """

    named: Named
    arch: Architecture
    mean: tuple[float, ...]
    std: tuple[float, ...]
    assumed_statistics: bool = False


class Read(NamedTuple):
    """What was read: tensors under our names, known fields of `Architecture`, and `mean` and `std` if stated."""

    named: Named
    known: dict[str, Any]
    statistics: dict[str, tuple[float, ...]]


def open_checkpoint(path: str | Path, heads: int | None = None, said: Said = NOTHING) -> Checkpoint:
    """Open a checkpoint file, or a folder of Hugging Face's transformers or of timm.

    Args:
        path: No code in it is run.
        heads: Attention heads, where neither the file nor the width tells.
        said: What else the user says of it.

    Raises:
        UserError: Not a checkpoint, or not of a ViT.
    """
    with about(path):
        named, known, statistics = read_named(Path(path), replace(said, heads=said.heads or heads))
        arch = architecture_of(named, **known)
        if taken := assumptions(named, arch, known):
            named.adapted.append(f"the file does not say, taken as usual: {', '.join(taken)}")
        if "pos_embed" not in named.state and "image_size" not in known:
            size = f"{arch.frames} frames of {arch.image_size[0]} px" if arch.frames > 1 else f"{arch.image_size[0]} px"
            named.adapted.append(f"the file has no positions: input taken to be {size}")
        mean, std = (statistics.get(name, values) for name, values in zip(("mean", "std"), named.source.statistics))
        mean, std = _per_channel("mean", mean, arch.channels), _per_channel("std", std, arch.channels)
    return Checkpoint(named, arch, mean, std, assumed_statistics=not {"mean", "std"} <= statistics.keys())


def read_named(path: Path, said: Said = NOTHING) -> Read:
    """Return tensors under our names, and what is known beside them.

    As `open_checkpoint`.
    """
    if os.path.isdir(path) and (path / hugging_face.CONFIG).is_file():  # noqa: PTH112, which fails on no path
        found = _of_folder(path, said.prefix)
    else:
        read = read_folder if os.path.isdir(path) else read_checkpoint  # noqa: PTH112  (shards)
        state = read(path, said.prefix)
        beside = timm_folder.config_beside(path)
        if said.like is not None:
            found = _like(state, said.like)
        elif beside is not None:
            network, known, statistics = timm_folder.read_config(path.parent / timm_folder.BESIDE, beside)
            found = Read(_of_network(network, state), known, statistics)
        else:
            found = _of_file(path, state, said.image_size)
    stated = {name: value for name in ("heads", "image_size") if (value := getattr(said, name))}
    statistics = {name: value for name in ("mean", "std") if (value := getattr(said, name))}
    return Read(found.named, found.known | stated, found.statistics | statistics)


def load_checkpoint(vit: ViT, path: str | Path) -> LoadReport:
    """Set a ViT's weights from what `open_checkpoint` opens, fitted to its input.

    A stored table of positions that nobody says the grid of is taken to be square, or of the ViT's own grid.
    """
    named, known, _ = read_named(Path(path))
    if ("pos_embed" in named.state and not known) or vit.pos_embed is None:
        return set_weights(vit, named)
    return set_weights(vit, named, architecture_of(named, **({"heads": vit.arch.heads} | known)).grid)


def _of_file(path: Path, state: State, image_size: tuple[int, int] | None) -> Read:
    recipe = run_folder.recipe_of(path)
    if recipe is None:
        return Read(under_our_names(state, image_size), {}, {})
    known, statistics = run_folder.read_recipe(recipe)
    named = under_our_names(state, known["image_size"])
    return Read(named._replace(source=run_folder.of_run(named.source)), known, statistics)


def _of_folder(path: Path, prefix: str | None) -> Read:
    state = read_folder(path, prefix)
    config = read_json(path / hugging_face.CONFIG, remedy="Copy or download it again.")
    if timm_folder.is_timm(config):
        network, known, statistics = timm_folder.read_config(path / hugging_face.CONFIG, config)
        return Read(_other_gates(_of_network(network, state), known), known, statistics)
    source, known, usual = hugging_face.read_config(path)
    named = under_our_names(state, known["image_size"])
    certain = replace(named.source, name=source, statistics=usual, assumed="", fields={})
    return Read(named._replace(source=certain), known, hugging_face.read_statistics(path))


def _like(state: State, name: str) -> Read:
    network = timm_folder.empty_network(name)
    known = timm_fields(network)
    if "pos_embed" in state:
        known.pop("image_size")
    return Read(_of_network(network, state), known, {})


def _of_network(network: nn.Module, state: State) -> Named:
    """Return a state dict of the kind of a network of timm under our names."""
    adapted: list[str] = []
    if "patch_embed.proj.weight" not in state:
        return under_our_names(state)
    state, fields = one_layout(timm_state(network, state), adapted)
    return Named(replace(TIMM, fields={}), state, adapted, fields)


def _other_gates(named: Named, known: dict[str, Any]) -> Named:
    """Take the activation that is usual with gates, or without, where the named network is of the other kind.

    UNI2-h and Virchow2 name a plain network and are given gated MLPs by their users' code.
    """
    first, last = (named.state.get(f"blocks.0.mlp.fc{i}.weight") for i in (1, 2))
    gated = first is not None and last is not None and first.shape[0] == 2 * last.shape[1]
    if gated != known["gated_mlp"]:
        known["activation"] = "silu" if gated else "gelu"
        named.adapted.append(f"the MLPs are {'' if gated else 'not '}gated: activation {known['activation']}")
    return named


def _per_channel(name: str, values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) not in (1, 3, channels) or (name == "std" and not all(value > 0 for value in values)):
        raise UserError(f"{name} {values}: one number or one per channel, and those of std above 0.")
    return tuple(values) * channels if len(values) == 1 else tuple(values[:channels])
