"""The stages of every task, put together from the rooms: prepare, pretrain, finetune."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import DataError, UserError
from ..datasets.manifest.seen import CHOSEN_ON, write_hashes
from ..datasets.manifest.tables import Manifest, Predictions, read_manifest, read_predictions
from ..engine.recipe import parse_recipe
from .calibration import check_calibration, store_calibration

CACHE = "pixel-cache"
CACHE_GB = 50.0
MANIFEST = "manifest.csv"


def open_manifest(data: Path | Manifest, labels: Sequence[str] | None = None) -> Manifest:
    """Return the manifest itself, or the one in a folder."""
    if isinstance(data, Manifest):
        return data if labels is None else data.with_labels(labels)
    data = Path(data)
    if data.is_dir():
        if not (data / MANIFEST).is_file():
            raise DataError(f"{data}: no {MANIFEST} in this folder. `clinvit prepare` makes one from a data set.")
        data = data / MANIFEST
    return read_manifest(data, labels)


def cache_place(manifest: Manifest, out: Path, asked: Path | str | None, cache_gb: float = CACHE_GB):
    """Return where decoded images and clips are: as asked, else beside the manifest (`prepare`), else beside `out`.

    Args:
        manifest: The cases.
        out: The run folder.
        asked: A folder, the URL of shards, or None.
        cache_gb: How much of the shards is kept on this machine, in the folder that None means.

    Returns:
        A folder, or `Shards`.
    """
    beside = manifest.path.parent / CACHE
    folder = beside if beside.is_dir() else Path(out).resolve().parent / CACHE
    if not isinstance(asked, str):
        return asked or folder
    from ..datasets.loading.shards.pixels import Shards

    return Shards(asked, folder / "shards", cache_gb)


def choose_recipe(recipes: Mapping[str, Callable], name: str, config: Path | None, options: Sequence[str]):
    """Return a named recipe, changed by a file and by dotted options."""
    if name not in recipes:
        raise UserError(f"unknown recipe {name!r}; known: {', '.join(recipes)}.")
    return parse_recipe(recipes[name](), config, options)


def pretrain_stage(
    recipe, data: Path | Manifest, out: Path, cache=None, tiles: Path | None = None,
    cache_gb: float = CACHE_GB, encoder: Path | None = None, hooks=None,
) -> Path:  # fmt: skip
    """Pre-train, on slides with the tiles in a folder of tile coordinates; return the encoder folder."""
    from ..pretrain.run import pretrain

    manifest = open_manifest(data, labels=None if recipe.reads_labels else ())
    place, own = cache_place(manifest, out, cache, cache_gb), {} if hooks is None else {"hooks": hooks}
    return pretrain(recipe, manifest, out, place, tiles, encoder, **own)


def finetune_stage(
    recipe,
    data: Path | Manifest,
    out: Path,
    *,
    encoder: Path | None = None,
    cache=None,
    cache_gb: float = CACHE_GB,
    features: Path | None = None,
    rule: str = "youden",
    calibrate: str | None = None,
    hooks=None,
) -> Path:
    """Fine-tune, then calibrate and choose thresholds on the validation cases; return the model folder.

    Calibration and thresholds are stored in the model's card. Repeated in a finished folder, it only predicts,
    calibrates and chooses again: by another rule, if asked.

    Args:
        recipe: The resolved recipe.
        data: Manifest or its folder.
        out: Run folder.
        encoder: Encoder folder or checkpoint to start from; not for slides.
        cache: See `cache_place`; not for slides.
        cache_gb: See `cache_place`.
        features: For slides: folder of their tiles' features, on which an aggregator is trained.
        rule: Rule for the thresholds.
        calibrate: `temperature` or `platt` (`eval.statistics.scaling`), None to leave the scores as they are.
        hooks: Own parts of a fine-tuning on images or clips (`engine.hooks.Hooks`).

    Raises:
        UserError: The calibration is unknown, not for exclusive classes, or there is no validation case for it.
    """
    from ..engine.run_folder import rank

    manifest = open_manifest(data, recipe.data.labels)
    if calibrate is not None:
        check_calibration(calibrate, recipe, manifest)
    if features is not None:
        from ..mil.run import train_mil

        folder = train_mil(recipe, manifest, features, out)
    else:
        from ..finetune.run import finetune

        place, own = cache_place(manifest, out, cache, cache_gb), {} if hooks is None else {"hooks": hooks}
        folder = finetune(recipe, manifest, out, place, encoder, **own)
    if rank() == 0:
        table = Path(out) / "predictions.csv"
        if calibrate is not None:
            store_calibration(folder, table, calibrate)
        store_thresholds(folder, read_predictions(table), rule)
    return folder


def store_thresholds(model: Path, predictions: Predictions, rule: str) -> None:
    """Choose a threshold per label on the validation cases and write it into the model's card."""
    from ..eval.statistics.operating_points import choose
    from ..mil.cards import load_any_card

    val = predictions.rows("val").scored()
    if not len(val):
        return
    points = choose(val.truth(), val.scores(), rule, "val")
    card = load_any_card(model)
    if any(point.chosen_on for point in points) or card.recipe.get("select") != "last" or card.calibration:
        write_hashes(model / CHOSEN_ON, val.table["id"])
    else:
        write_hashes(model / CHOSEN_ON, [])
    stored = {
        label: {
            "value": None if np.isnan(p.threshold) else p.threshold,
            "how": p.rule,
            "split": p.chosen_on,
            "reason": p.reason,
        }
        for label, p in zip(val.labels, points)
    }
    replace(card, thresholds=stored).write(model)
