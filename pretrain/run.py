"""Pre-training from a manifest to an encoder folder: masked, or DINO."""

from pathlib import Path

from ..backbone.encoder import EncoderCard, save_encoder
from ..core.errors import UserError
from ..datasets.loading.shards.pixels import Shards
from ..datasets.manifest.seen import TRAINED_ON, write_hashes
from ..datasets.manifest.tables import Manifest
from ..engine.recipe import plain
from ..engine.run_folder import rank, run_folder, versions
from ..engine.trainer import fit
from .dino_training import DinoPretraining, build_dino
from .masked import MaskedPretraining, build_mae
from .neighbours import NeighbourCheck
from .recipe import Dino, Pretrain
from .sources import Source, open_files, open_tiles, reader_of, try_slides
from .training import ShowImage, statistics


def pretrain(
    recipe: Pretrain | Dino, manifest: Manifest, out: Path, cache: Path | Shards, tiles: Path | None = None
) -> Path:  # fmt: skip
    """Pre-train and write `out/encoder/`.

    Args:
        recipe: The resolved recipe; its kind decides the method.
        manifest: The cases; labels are looked at by DINO's `monitor` alone.
        out: The run folder. A run that was interrupted there goes on.
        cache: Folder where decoded images are kept, or shards of them.
        tiles: For slides: folder of `<id>.h5` tile coordinates; then a case is a tile, read from its slide each time.

    Returns:
        The encoder folder.
    """
    if isinstance(recipe, Dino) and recipe.monitor and recipe.data.labels is not None:
        manifest = manifest.with_labels(recipe.data.labels)
    chosen = manifest.rows(*recipe.data.splits)
    if not len(chosen):
        raise UserError(f"{manifest.path}: no case in the splits {', '.join(recipe.data.splits)} (data.splits).")
    model = build_dino(recipe) if isinstance(recipe, Dino) else build_mae(recipe)
    inputs = {"data": chosen.fingerprint()}
    if tiles is not None:
        slides = try_slides(recipe, chosen, tiles)
        inputs["tiles"] = slides.fingerprint()
    elif isinstance(cache, Shards):
        inputs |= cache.inputs(reader_of(recipe))
        if rank() == 0:
            print(cache)
    with run_folder(out, recipe, inputs) as folder:
        source = open_files(recipe, chosen, cache) if tiles is None else open_tiles(recipe, chosen, slides)
        images = ShowImage(folder)
        callbacks = [images]
        if isinstance(recipe, Dino):
            training = DinoPretraining(model, recipe, source)
            if recipe.monitor:
                callbacks.append(NeighbourCheck(source, recipe.monitor, recipe.run.seed))
        else:
            training = MaskedPretraining(model, recipe, source)
        fit(training, recipe.optim, recipe.run, folder, "pre-training", callbacks=callbacks)
        if rank() == 0:
            images.draw(training)
            table = source.manifest.table
            write_hashes(folder / "encoder" / TRAINED_ON, table["id"], table["patient"])
            return save_encoder(folder / "encoder", training.kept, _card(recipe, training, manifest, source))
    return out / "encoder"


def _card(
    recipe: Pretrain | Dino, training: DinoPretraining | MaskedPretraining, manifest: Manifest, source: Source
) -> EncoderCard:
    data = {
        "manifest": manifest.fingerprint(),
        "splits": list(recipe.data.splits),
        "cases": len(source.manifest),
        "patients": int(source.manifest.table["patient"].nunique()),
        "unreadable": len(source.bad),
    }
    if source.slides is not None:
        grid = source.pixels.sizes[0]
        data |= {"tiles": len(source.rows), "tile_um": grid[0], "tile_px": grid[1]}
    method = "dino" if isinstance(recipe, Dino) else "mae"
    return EncoderCard(training.kept.arch, *statistics(recipe), method, plain(recipe), data, versions())
