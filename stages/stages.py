"""The stages of every task, put together from the rooms: prepare, pretrain, finetune."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core.alone import file_alone
from ..core.errors import DataError, UserError
from ..datasets.manifest.boxes import BOXES, write_boxes
from ..datasets.manifest.inventory import warn
from ..datasets.manifest.patients import alike_patients
from ..datasets.manifest.seen import CHOSEN_ON, write_hashes
from ..datasets.manifest.tables import Manifest, Predictions, read_manifest, read_predictions, write_manifest
from ..engine.recipe import parse_recipe
from ..mil.calibrated import check_calibration, store_calibration

CACHE = "pixel-cache"
CACHE_GB = 50.0
MANIFEST = "manifest.csv"


def open_manifest(data: Path | Manifest, labels: Sequence[str] | None = None) -> Manifest:
    """The manifest itself, or the one in a folder."""
    if isinstance(data, Manifest):
        return data if labels is None else data.with_labels(labels)
    data = Path(data)
    if data.is_dir():
        if not (data / MANIFEST).is_file():
            raise DataError(f"{data}: no {MANIFEST} in this folder. `clinvit prepare` makes one from a data set.")
        data = data / MANIFEST
    return read_manifest(data, labels)


def cache_place(manifest: Manifest, out: Path, asked: Path | str | None, cache_gb: float = CACHE_GB):
    """Where decoded images and clips are: as asked, else beside the manifest (`prepare`), else beside `out`.

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
    """A named recipe, changed by a file and by dotted options."""
    if name not in recipes:
        raise UserError(f"unknown recipe {name!r}; known: {', '.join(recipes)}.")
    return parse_recipe(recipes[name](), config, options)


def pretrain_stage(
    recipe, data: Path | Manifest, out: Path, cache=None, tiles: Path | None = None,
    cache_gb: float = CACHE_GB, encoder: Path | None = None, hooks=None,
) -> Path:  # fmt: skip
    """Pre-training, of slides on the tiles in a folder of tile coordinates; gives the encoder folder."""
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
    """Fine-tuning, then calibration and thresholds from the validation cases into the model's card; gives the model
    folder. Repeated in a finished folder, it only predicts anew, calibrates and chooses: by another rule, if asked.

    Args:
        recipe: The resolved recipe.
        data: Manifest or its folder.
        out: Run folder.
        encoder, cache, cache_gb: Of images and clips (`cache_place`).
        features: Of slides: folder of their tiles' features, on which an aggregator is trained.
        rule: For the thresholds.
        calibrate: `temperature` or `platt` (`eval.scaling`), None to leave the scores as they are.
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
    from ..mil.cards import load_any_card, save_any_card

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
    save_any_card(model, replace(card, thresholds=stored))


class Prepared(NamedTuple):
    """A data set that was read.

    Attributes:
        manifest: Read back from the file that was written.
        notes: What was left out or decided, a sentence each.
        warnings: What may spoil a result.
        lists_only: There were only lists, no files.
    """

    manifest: Manifest
    notes: list[str]
    warnings: list[str]
    lists_only: bool


def prepare_stage(
    task,
    root: Path,
    out: Path,
    *,
    layout: str | None = None,
    options: Mapping | None = None,
    resplit: int | None = None,
    data_roots: Sequence[Path] = (),
) -> Prepared:
    """A data set as downloaded to a manifest whose paths are relative to its own folder, and its boxes beside it.

    Args:
        task: The task's module.
        root: Folder of the data set (or a CSV of one's own).
        out: The manifest to write.
        layout, options: Of the task's `to_manifest`.
        resplit: Seed of new patient-grouped splits; None keeps those of the data set.
        data_roots: Folders outside of `root` in which files may lie too.

    Raises:
        UserError: Another process is writing `out`, or a file lies outside of `root` and the `data_roots`.
    """
    from ..datasets.manifest.splits import assign_splits

    table, labels = task.to_manifest(root, layout, **dict(options or {}))
    if resplit is not None:
        table["split"] = assign_splits(table, labels, seed=resplit)
    folder = root if root.is_dir() else root.parent
    base = os.path.relpath(folder.resolve(), out.parent.resolve())
    paths = table["path"] if base == "." else base + "/" + table["path"]
    if "annotation" in table and base != ".":
        table["annotation"] = table["annotation"].mask(table["annotation"] != "", base + "/" + table["annotation"])
    if alike := alike_patients(table):
        warn(table, alike)
    about = table.attrs
    given = [*data_roots, *([options["data_root"]] if options and options.get("data_root") else [])]
    # Links that lead out of the data set are not followed unasked: they may have come with it.
    roots = [base] * base.startswith("..") + [str(Path(each).resolve()) for each in given]
    with file_alone(out, out.parent / BOXES):
        write_manifest(out, table.assign(path=paths), labels, about["meaning"], roots)
        if "boxes" in about:
            write_boxes(out.parent / BOXES, about["boxes"])
    return Prepared(read_manifest(out, labels), about["notes"], about["warnings"], about.get("lists_only", False))
