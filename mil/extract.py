"""Features of all tiles of all slides: one HDF5 per slide, resumed slide by slide, shared among processes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..core.documents import read_json, read_yaml
from ..core.errors import DataError, UserError
from ..core.files import file_sha256, write_json
from ..core.platform import usable_cores
from ..datasets.manifest.seen import PRETRAINED_ON, TRAINED_ON, read_hashes, save_hashes
from ..datasets.manifest.tables import Manifest
from ..datasets.slides.places import tiles_file
from ..datasets.slides.shared_work import SharedWork, slide_file, work_through
from ..engine.cores import share_cores
from ..engine.recipe import plain
from ..engine.run_folder import run_folder
from ..finetune.model import best_device
from ..finetune.multiscale import check_scales
from .extract_recipe import Extract
from .slide_encoder import TileEncoder, load_tile_encoder

# How features were made, from the slide on: what has to be repeated to predict another slide.
PIPELINE = "pipeline.json"
HALF_MOST = 65_504  # features beyond it are stored in single precision, which the status table says
PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def extract(recipe: Extract, manifest: Manifest, tiles: Path, out: Path, encoder: str) -> pd.DataFrame:
    """Write `out/<id>.h5` for every slide and `out/status.csv`.

    Any number of processes, on any number of machines that see the same folder, may be given the same command: each
    slide is done by one of them. A process that was killed is continued by repeating the command.

    Args:
        recipe: The resolved recipe.
        manifest: The slides; labels and splits are never looked at.
        tiles: Folder of `<id>.h5` tile coordinates (`clinvit tile`).
        out: Folder of features to write.
        encoder: See `load_tile_encoder`.

    Returns:
        The status table.
    """
    for name, known in (("dtype", ("float32", "float16")), ("precision", ("auto", *PRECISIONS))):
        if getattr(recipe, name) not in known:
            raise UserError(f"{name} {getattr(recipe, name)!r}: one of {', '.join(known)}.")
    check_scales(recipe.scales)
    network = load_tile_encoder(encoder, recipe.features).to(best_device())
    inputs = {"encoder": network.fingerprint(), "tiles": _tiling(tiles)}
    hashes = read_hashes(Path(encoder) / TRAINED_ON)
    about = {
        "encoder": network.name,
        "encoder_sha256": inputs["encoder"],
        "encoder_features": recipe.features,
        "encoder_scales": " ".join(map(str, recipe.scales)),
        "encoder_stain": recipe.stain.method,
        "encoder_stain_scope": recipe.stain.scope,
    }
    scales = dict(zip(manifest.table["id"], manifest.microns_per_px(), strict=True))
    with run_folder(out, recipe, inputs, shared=True) as folder:
        save_hashes(folder / PRETRAINED_ON, hashes)
        write_json(folder / PIPELINE, {"tiling": _yaml(tiles), "extract": plain(recipe), "encoder": network.name})
        work = SharedWork(folder, dict(zip(scales, manifest.files(), strict=True)))

        def do(slide: str) -> dict:
            return extract_slide(recipe, network, work.files[slide], scales[slide], tiles, folder, slide, about)

        return work_through(work, do, "features")


def extract_slide(
    recipe: Extract, encoder: TileEncoder, path: Path, mpp: float | None, tiles: Path, out: Path, slide: str,
    about: dict[str, str],
) -> dict:  # fmt: skip
    """Write the features of one slide; gives the facts for its row of the status table.

    Raises:
        DataError: No tiles, a tile that cannot be read, a feature that is not finite. Nothing is written then.
    """
    from ..datasets.slides.hdf5 import write_features
    from ..datasets.slides.tile_reading import Tiles, slide_tiles

    grid = slide_tiles(_tiles_of(tiles, slide), path, mpp, recipe.tile_level0_px)
    width = encoder.check(grid.tile_px) * len(recipe.scales)
    source = Tiles(path, mpp, grid, recipe.scales[-1], recipe.stain)
    features, done = np.empty((len(source), width), np.dtype(recipe.dtype)), 0
    for batch in source.batches(recipe.batch_size, reading_processes(recipe)):
        found = encode(encoder, batch, recipe.precision, recipe.scales)
        if features.dtype == np.float16 and np.isfinite(found).all() and np.abs(found).max() > HALF_MOST:
            features = features.astype(np.float32)
        features[done : done + len(batch)] = found
        done += len(batch)
    if not np.isfinite(features).all():
        raise DataError(f"{path}: the encoder gives features that are not finite; try --precision 32-true.")
    write_features(slide_file(out, slide), features, grid, about)
    return {"tiles": len(features), "width": width, "dtype": str(features.dtype)}


@torch.inference_mode()
def encode(encoder: TileEncoder, tiles: np.ndarray, precision: str, scales: Sequence[int] = (1,)) -> np.ndarray:
    """(B, n D) float32 features at n scales of (B, s S, s S, 3) uint8 tiles, read at the finest scale s."""
    share_cores()
    where = encoder.mean.device
    if precision == "auto":
        precision = "16-mixed" if where.type == "cuda" else "32-true"
    kind = PRECISIONS[precision]
    with torch.autocast(where.type, kind or torch.bfloat16, enabled=kind is not None):
        return encoder(torch.from_numpy(tiles).to(where), scales).float().cpu().numpy()


def reading_processes(recipe: Extract) -> int:
    """As asked, else one per core, at most 16."""
    return recipe.workers if recipe.workers > 0 else min(16, usable_cores())


def _tiles_of(tiles: Path, slide: str) -> Path:
    path = tiles_file(tiles, slide)
    if not path.is_file():
        state = SharedWork(tiles, {slide: path}).state(slide)
        why = f": {state['reason']}" if state and state["reason"] else "; run `clinvit tile` first"
        raise DataError(f"{path}: this slide has no tiles{why}")
    return path


def read_pipeline(features: Path) -> dict:
    """`tiling`, `extract`, `encoder` of a folder of features; empty for features that other tools made."""
    path = Path(features) / PIPELINE
    return read_json(path) if path.exists() else {}


def _yaml(tiles: Path) -> dict:
    path = Path(tiles) / "recipe.yaml"
    return read_yaml(path) if path.exists() else {}


def _tiling(tiles: Path) -> str:
    """What a folder of tiles was made with: its recipe's hash, or nothing for one that other tools made."""
    recipe = Path(tiles) / "recipe.yaml"
    if not Path(tiles).is_dir():
        raise UserError(f"{tiles}: no such folder; `clinvit tile` makes one of tile coordinates.")
    return file_sha256(recipe) if recipe.is_file() else ""
