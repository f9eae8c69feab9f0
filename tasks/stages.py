"""The stages of every task, put together from the rooms: prepare, pretrain, finetune, predict."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..datasets.boxes import BOXES, write_boxes
from ..datasets.tables import (
    Manifest,
    Predictions,
    predictions_table,
    read_manifest,
    read_predictions,
    write_manifest,
    write_predictions,
)
from ..engine.recipe import parse_recipe
from ..errors import DataError, UserError
from ..files import written_aside
from .calibrated import calibrated, check_calibration, store_calibration

CACHE = "pixel-cache"
MANIFEST = "manifest.csv"


def open_manifest(data: Path, labels: Sequence[str] | None = None) -> Manifest:
    """The manifest itself, or the one in a folder."""
    data = Path(data)
    if data.is_dir():
        if not (data / MANIFEST).is_file():
            raise DataError(f"{data}: no {MANIFEST} in this folder. `clinvit prepare` makes one from a data set.")
        data = data / MANIFEST
    return read_manifest(data, labels)


def cache_folder(manifest: Manifest, out: Path, asked: Path | None) -> Path:
    """Where decoded pictures and clips are kept: as asked, else beside the manifest (`prepare`), else beside `out`."""
    beside = manifest.path.parent / CACHE
    return asked or (beside if beside.is_dir() else Path(out).resolve().parent / CACHE)


def choose_recipe(recipes: Mapping[str, Callable], name: str, config: Path | None, options: Sequence[str]):
    """A named recipe, changed by a file and by dotted options."""
    if name not in recipes:
        raise UserError(f"unknown recipe {name!r}; known: {', '.join(recipes)}.")
    return parse_recipe(recipes[name](), config, options)


def pretrain_stage(recipe, data: Path, out: Path, cache: Path | None = None, tiles: Path | None = None) -> Path:
    """Pre-training, of slides on the tiles in a folder of tile coordinates; gives the encoder folder."""
    from ..pretrain.run import pretrain

    # DINO may watch its features by the labels (`monitor`); nothing else looks at them.
    manifest = open_manifest(data, labels=None if getattr(recipe, "monitor", 0) else ())
    return pretrain(recipe, manifest, out, cache_folder(manifest, out, cache), tiles)


def finetune_stage(
    recipe,
    data: Path,
    out: Path,
    *,
    encoder: Path | None = None,
    cache: Path | None = None,
    features: Path | None = None,
    rule: str = "youden",
    calibrate: str | None = None,
) -> Path:
    """Fine-tuning, then calibration and thresholds from the validation cases into the model's card; gives the model
    folder. Repeated in a finished folder, it only predicts anew, calibrates and chooses: by another rule, if asked.

    Args:
        recipe: The resolved recipe.
        data: Manifest or its folder.
        out: Run folder.
        encoder, cache: Of pictures and clips.
        features: Of slides: folder of their tiles' features, on which an aggregator is trained.
        rule: For the thresholds.
        calibrate: `temperature` or `platt` (`eval.scaling`), None to leave the scores as they are.

    Raises:
        UserError: The calibration is unknown, not for exclusive classes, or there is no validation case for it.
    """
    from ..engine.run_folder import rank

    manifest = open_manifest(data, recipe.data.labels)
    if calibrate is not None:
        check_calibration(calibrate, recipe, manifest)
    if features is not None:
        from ..finetune.mil.run import train_mil

        folder = train_mil(recipe, manifest, features, out)
    else:
        from ..finetune.run import finetune

        folder = finetune(recipe, manifest, out, cache_folder(manifest, out, cache), encoder)
    if rank() == 0:
        table = Path(out) / "predictions.csv"
        if calibrate is not None:
            store_calibration(folder, table, calibrate)
        store_thresholds(folder, read_predictions(table), rule)
    return folder


def store_thresholds(model: Path, predictions: Predictions, rule: str) -> None:
    """Choose a threshold per label on the validation cases and write it into the model's card."""
    from ..eval.operating_points import choose
    from ..finetune.cards import load_any_card, save_any_card

    val = predictions.rows("val").scored()
    if not len(val):
        return
    points = choose(val.truth(), val.scores(), rule, "val")
    stored = {
        label: {
            "value": None if np.isnan(p.threshold) else p.threshold,
            "how": p.rule,
            "split": p.chosen_on,
            "reason": p.reason,
        }
        for label, p in zip(val.labels, points)
    }
    save_any_card(model, replace(load_any_card(model), thresholds=stored))


def predict_stage(
    model: Path,
    inputs: Sequence[str],
    out: Path,
    batch: int = 32,
    workers: int = 0,
    importance: Path | None = None,
    explain: Path | None = None,
    method: str = "gradient",
) -> pd.DataFrame:
    """Predict files, folders, globs or a manifest; gives (and writes) one row per requested case.

    Args:
        model: Model folder.
        inputs: What the user named.
        out: The predictions table to write.
        batch: Files per batch.
        workers: Reading processes.
        importance: For models of clips: a folder for one plot per clip of which frames the score rests on.
        explain: For models of pictures: a folder for maps of where the model looked (`explain.explain_cases`).
        method: Of these maps.
    """
    from ..finetune.model import load_model
    from ..finetune.predict import predict_files

    network, card = load_model(model)
    if importance is not None and card.arch.frames == 1:
        raise UserError(f"{model}: a model of pictures; the importance of frames is for models of clips.")
    if explain is not None and card.arch.frames > 1:
        raise UserError(f"{model}: a model of clips; maps are for models of pictures (see --importance).")
    cases, truth = requested_cases(inputs, card.labels, card.suffixes())
    files = [Path(path) for path in cases["path"]]
    scores, reasons = predict_files(network, card, files, batch, workers)
    table = predictions_table(cases, card.labels, truth, calibrated(card, scores), reasons)
    write_predictions(out, table)
    if importance is not None:
        _plot_importance(network, card, cases, reasons, importance)
    if explain is not None:
        from .explain import explain_cases

        explain_cases(network, card, model, cases, table, explain, method, min(batch, 8), workers)
    return table


def _plot_importance(network, card, cases: pd.DataFrame, reasons: Sequence[str], folder: Path) -> None:
    """One picture per clip and label: how much the score rests on which frames."""
    from ..eval.plots import frame_importance_plot
    from ..finetune.importance import frame_importance

    for (_, case), reason in zip(cases.iterrows(), reasons):
        if reason:
            continue
        found = frame_importance(network, card, Path(case["path"]))
        for label, change in zip(card.labels, found.change):
            name = f"{case['id']}-{label}".replace("/", "_").replace(" ", "_")
            picture = frame_importance_plot(found.times_s, change, found.frames, title=case["id"], label=label)
            with written_aside(folder / f"{name}.png") as aside:
                aside.write_bytes(picture)


def requested_cases(
    inputs: Sequence[str], labels: Sequence[str], suffixes: Sequence[str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """`id, path, patient, split` and (N, L) truth (NaN where unknown) of what a user named on the command line.

    Args:
        inputs: Files, folders (searched for `suffixes`), globs, or one manifest CSV.
        labels: Of the model.
        suffixes: Of the files that the model reads.
    """
    if len(inputs) == 1 and inputs[0].lower().endswith(".csv"):
        manifest = read_manifest(inputs[0])
        known = [label for label in labels if label in manifest.labels]
        truth = manifest.table.reindex(columns=list(labels)).astype(float)
        truth[[label for label in labels if label not in known]] = np.nan
        return manifest.table.assign(path=[str(file) for file in manifest.files()]), truth.to_numpy()
    files = expand(inputs, suffixes)
    stems = [file.stem for file in files]
    ids = stems if len(set(stems)) == len(stems) else [file.as_posix() for file in files]
    cases = pd.DataFrame({"id": ids, "path": [str(file) for file in files], "patient": ids, "split": "new"})
    return cases, np.full((len(cases), len(labels)), np.nan)


def expand(inputs: Sequence[str], suffixes: Sequence[str]) -> list[Path]:
    """Files, folders (searched below, by suffix) and globs to a list of files; a file that is missing stays in it."""
    files: list[Path] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            found = sorted(f for f in path.rglob("*") if f.suffix.lower() in suffixes and f.is_file())
            if not found:
                raise DataError(f"{path}: no file in this folder that the model reads ({', '.join(sorted(suffixes))}).")
            files += found
        elif not path.exists() and any(sign in text for sign in "*?["):
            found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor) if path.anchor else path)))
            if not found:
                raise DataError(f"{text}: no file matches.")
            files += [file for file in found if file.is_file()]
        else:
            files.append(path)
    return list(dict.fromkeys(files))


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
) -> Prepared:
    """A data set as downloaded to a manifest whose paths are relative to its own folder, and its boxes beside it.

    Args:
        task: The task's module.
        root: Folder of the data set (or a CSV of one's own).
        out: The manifest to write.
        layout, options: Of the task's `to_manifest`.
        resplit: Seed of new patient-grouped splits; None keeps those of the data set.

    """
    from ..datasets.splits import assign_splits

    table, labels = task.to_manifest(root, layout, **dict(options or {}))
    if resplit is not None:
        table["split"] = assign_splits(table, labels, seed=resplit)
    folder = root if root.is_dir() else root.parent
    out.parent.mkdir(parents=True, exist_ok=True)
    base = os.path.relpath(folder.resolve(), out.parent.resolve())
    paths = table["path"] if base == "." else base + "/" + table["path"]
    if "annotation" in table and base != ".":
        table["annotation"] = table["annotation"].mask(table["annotation"] != "", base + "/" + table["annotation"])
    write_manifest(out, table.assign(path=paths), labels, table.attrs["meaning"])
    about = table.attrs
    if "boxes" in about:
        write_boxes(out.parent / BOXES, about["boxes"])
    return Prepared(read_manifest(out, labels), about["notes"], about["warnings"], about.get("lists_only", False))
