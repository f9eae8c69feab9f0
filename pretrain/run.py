"""Pre-training from a manifest to an encoder folder, by whatever method the recipe names."""

from dataclasses import replace
from pathlib import Path

from ..backbone.encoder import EncoderCard, fingerprint, save_encoder
from ..core.errors import UserError
from ..datasets.loading.left_out import say_left_out, write_left_out
from ..datasets.loading.own import Transformed
from ..datasets.loading.regions import regions_note, roi_inputs, write_regions
from ..datasets.loading.shards.pixels import Shards
from ..datasets.loading.source import Place, Source
from ..datasets.manifest.seen import TRAINED_ON, write_hashes
from ..datasets.manifest.tables import Manifest
from ..datasets.slides.stream import TileSource
from ..engine.hooks import Hooks
from ..engine.recipe import plain
from ..engine.run_folder import rank, run_folder, versions
from ..engine.trainer import fit
from .method import Method, ShowImage, encoder_of, method_of, statistics
from .recipe import PretrainRecipe
from .report_features import ReportFeatures
from .sources import open_slides, open_source, reader_of
from .start import Parent, freeze, going_on, open_parent

NO_HOOKS = Hooks()
NAMED = 20  # ids of cases without a report on the card


def pretrain(
    recipe: PretrainRecipe, manifest: Manifest, out: Path, cache: Place, tiles: Path | None = None,
    encoder: Path | None = None, hooks: Hooks = NO_HOOKS, reports: ReportFeatures | None = None,
) -> Path:  # fmt: skip
    """Pre-train and write `out/encoder/`.

    Args:
        recipe: The resolved recipe, which knows its method.
        manifest: The cases; labels are looked at by DINO's `monitor` alone.
        out: The run folder. A run that was interrupted there goes on.
        cache: Folder where decoded images are kept, shards of them, or items of one's own.
        tiles: For slides: folder of `<id>.h5` tile coordinates; then a case is a tile, read from its slide each time.
        encoder: An encoder folder or a checkpoint file to start from; None is a random start.
        hooks: Own parts.
        reports: Of every case of the recipe's splits, in their order; None where the recipe reads no reports.

    Returns:
        The encoder folder.
    """
    if recipe.reads_labels and recipe.data.labels is not None:
        manifest = manifest.with_labels(recipe.data.labels)
    chosen = manifest.rows(*recipe.data.splits)
    if not len(chosen):
        raise UserError(f"{manifest.path}: no case in the splits {', '.join(recipe.data.splits)} (data.splits).")
    method = method_of(recipe)
    parent = None if encoder is None else open_parent(encoder, recipe)
    if parent is not None:
        recipe, notes = going_on(recipe, parent)
    model = method.build(recipe) if parent is None else method.build(recipe, parent.arch)
    inputs: dict[str, str | float] = {"data": chosen.fingerprint(), **hooks.inputs()}
    if reports is not None:
        inputs["reports"] = reports.sha256
    slides = None
    report = ""
    if parent is not None:
        inputs["encoder"] = fingerprint(parent.path)
        report = method.start_from(model, parent.path)
        if rank() == 0:
            print("\n".join([f"encoder {parent.path}: {report}", *(f"note: {note}" for note in notes)]))
    freeze(encoder_of(model), recipe, parent)
    if tiles is not None:
        slides = open_slides(recipe, chosen, tiles)
        inputs["tiles"] = slides.fingerprint()
        recipe.optim.check_cases(slides.tiles(recipe.tiles_per_slide), "tiles of an epoch")
    else:
        recipe.optim.check_cases(len(chosen))
        reader = reader_of(recipe)  # what it lacks is said before the run folder is claimed
        inputs |= roi_inputs(reader, chosen)
        if isinstance(cache, Shards):
            inputs |= cache.inputs(reader)
            if rank() == 0:
                print(cache)
    with run_folder(out, recipe, inputs) as folder:
        source = replace(open_source(recipe, chosen, cache, slides), reports=reports)
        if rank() == 0 and (note := source.colour_note()):
            print(f"note: {note}")
        if rank() == 0 and (warning := source.rate_warning(recipe.data, recipe.model.frames)):
            print(f"warning: {warning}")
        regions = source.regions() if rank() == 0 else []
        if note := regions_note(regions):
            print(f"note: {note}")
        if rank() == 0:
            say_left_out(source.bad, len(chosen))
        training, images = method(model, recipe, source), ShowImage(folder)
        if hooks.transform is not None:
            shape = recipe.model.channels, recipe.model.frames
            training.dataset.view = Transformed(training.dataset.view, hooks.transform, *shape)
        more = [*method.callbacks(recipe, source), *hooks.callbacks]
        fit(training, recipe.optim, recipe.run, folder, "pre-training", callbacks=[images, *more])
        if rank() == 0:
            images.draw(training)
            _write_seen(folder / "encoder" / TRAINED_ON, source, parent)
            card = _card(recipe, training, manifest, source)
            card.data.update(write_left_out(folder, chosen, source.left_out(training.unread)))
            if slides is None:
                card.data.update(write_regions(folder, chosen, regions))
            if parent is not None:
                card.data.update(started_from=str(parent.path), parent=parent.facts(report))
            if reports is not None:
                card.data.update(without_report=len(reports.without), without_report_ids=list(reports.without[:NAMED]))
            training.save_more(folder / "encoder")
            return save_encoder(folder / "encoder", training.kept, card)
    return out / "encoder"


def _write_seen(path: Path, source: Source, parent: Parent | None) -> None:
    """Write the hashes of what the encoder has seen, what the one that it started from has seen included."""
    table = source.manifest.table
    write_hashes(path, table["id"], table["patient"], () if parent is None else parent.seen())


def _card(recipe: PretrainRecipe, training: Method, manifest: Manifest, source: Source) -> EncoderCard:
    data = {
        "manifest": manifest.fingerprint(),
        "splits": list(recipe.data.splits),
        "cases": len(source.manifest),
        "patients": int(source.manifest.table["patient"].nunique()),
    }
    if isinstance(source.pixels, TileSource):
        grid = source.pixels.sizes[0]
        data |= {"tiles": len(source.rows), "tile_um": grid[0], "tile_px": grid[1]}
    return EncoderCard(training.kept.arch, *statistics(recipe), training.name, plain(recipe), data, versions())
