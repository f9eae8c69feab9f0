"""A foreign checkpoint opened: its tensors under our names, its architecture and the input it was trained on."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from ...core.errors import about
from ..sizes import Architecture
from ..vit import ViT
from . import hugging_face, run_folder
from .architecture import architecture_of
from .fit import set_weights
from .reading import read_checkpoint
from .recognise import Named, under_our_names
from .report import LoadReport


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


def open_checkpoint(path: str | Path, heads: int | None = None) -> Checkpoint:
    """Open a checkpoint file, or a folder of Hugging Face's transformers.

    Args:
        path: No code in it is run.
        heads: Attention heads, where neither the file nor the width tells.

    Raises:
        UserError: Not a checkpoint, or not of a ViT.
    """
    with about(path):
        named, known, statistics = read_named(Path(path))
        arch = architecture_of(named, **({"heads": heads} | known))
    if "pos_embed" not in named.state and "image_size" not in known:
        size = f"{arch.frames} frames of {arch.image_size[0]} px"
        named.adapted.append(f"the file has no positions: input taken to be {size}")
    mean, std = (statistics.get(name, values) for name, values in zip(("mean", "std"), named.source.statistics))
    mean, std = _per_channel(mean, arch.channels), _per_channel(std, arch.channels)
    return Checkpoint(named, arch, mean, std, assumed_statistics=not {"mean", "std"} <= statistics.keys())


def read_named(path: Path) -> tuple[Named, dict, dict]:
    """Return tensors under our names, and what lies beside them: `Architecture` fields, mean and std.

    As `open_checkpoint`.
    """
    if os.path.isdir(path):  # noqa: PTH112, which fails on no path, however long
        named = under_our_names(read_checkpoint(path / hugging_face.WEIGHTS))
        source, known, statistics = hugging_face.read_config(path)
        return named._replace(source=replace(named.source, name=source)), known, statistics
    named = under_our_names(read_checkpoint(path))
    if recipe := run_folder.recipe_of(path):
        return named._replace(source=run_folder.of_run(named.source)), *run_folder.read_recipe(recipe)
    return named, {}, {}


def load_checkpoint(vit: ViT, path: str | Path) -> LoadReport:
    """Set a ViT's weights from what `open_checkpoint` opens, fitted to its input.

    A stored table of positions that nobody says the grid of is taken to be square, or of the ViT's own grid.
    """
    named, known, _ = read_named(Path(path))
    if "pos_embed" in named.state and not known:
        return set_weights(vit, named)
    return set_weights(vit, named, architecture_of(named, **({"heads": vit.arch.heads} | known)).grid)


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return tuple(values) * channels if len(values) == 1 else tuple(values[:channels])
