"""The stage `predict` of a cross-validation: every case by the model that has not seen its patient, with its maps."""

from dataclasses import replace

import pandas as pd

from ..core.errors import DataError, UserError
from ..datasets.manifest.tables import read_csv, read_manifest, read_predictions
from .explain import EXPLANATIONS
from .facts import beside
from .fold_tables import joined_folds
from .folds import FOLDS
from .predict import Request, predict_stage


def predict_any(request: Request) -> pd.DataFrame | None:
    """Predict by a model folder, or by the models of a cross-validation (`finetune --folds`).

    Raises:
        UserError, DataError: As of `predict_stage` and `predict_folds`.
    """
    if (request.model / FOLDS).is_file():
        return predict_folds(request)
    return predict_stage(request)


def predict_folds(request: Request) -> pd.DataFrame:
    """Predict each case of a manifest by the model that held it out; gives and writes the joined table.

    The tables of the single folds lie in `<out's name>.fold_1/`, ...; maps of all lie in one folder. Each row has the
    split test, as its model has seen none of its patient, and its `fold`.

    Args:
        request: Its `model` is the folder of the cross-validation, its one input the manifest.

    Raises:
        UserError: Something is asked that is made for a single model, or the folder lacks a fold's model.
        DataError: The manifest has cases that no fold held out.
    """
    from ..finetune.model import load_card

    _refuse(request)
    fold = _held_out(request)
    numbers = sorted(fold.unique(), key=int)
    models = {number: request.model / f"fold_{number}/model" for number in numbers}
    if missing := [folder for folder in models.values() if not (folder / "model.json").is_file()]:
        raise UserError(f"{missing[0]}: no model there: repeat `clinvit finetune --folds`, which goes on.")
    card = load_card(models[numbers[0]])
    if card.aggregation:
        raise UserError(f"{request.model}: models of a {card.aggregation['unit']}, which are predicted one by one.")
    explain = request.explain or (request.out.parent / EXPLANATIONS if card.dense else None)
    tables = []
    for number in numbers:
        held = frozenset(fold.index[fold == number])
        print(f"fold {number} of {numbers[-1]}: {len(held):,} cases by {models[number]}", flush=True)
        out = request.out.with_name(f"{request.out.stem}.fold_{number}") / "predictions.csv"
        predict_stage(replace(request, model=models[number], out=out, explain=explain, only=held))
        tables.append(out)
    joined_folds(tables, request.out, None)
    return read_predictions(request.out, targets=True).table


def _held_out(request: Request) -> pd.Series:
    """Return the fold of each case of the manifest, by id."""
    folds = read_csv(request.model / FOLDS).set_index("id")["fold"]
    manifest = read_manifest(request.inputs[0])
    ids = manifest.table["id"]
    if unknown := [case for case in ids if case not in folds.index]:
        raise DataError(
            f"{manifest.path}: {len(unknown):,} of {len(ids):,} cases, first {unknown[0]!r}, were held out by no fold "
            f"of {request.model}: which model should score them? Name one, {request.model}/fold_1/model."
        )
    return folds.loc[ids]


def _refuse(request: Request) -> None:
    """Raise for what is made for a single model."""
    where = f"{request.model}: a cross-validation"
    if len(request.inputs) != 1 or not str(request.inputs[0]).lower().endswith(".csv"):
        raise UserError(f"{where}: its models score the cases that they held out: give the manifest, one CSV.")
    if request.out.suffix.lower() != ".csv":
        raise UserError(f"--out {request.out}: the table of a cross-validation is written as .csv.")
    asked = {
        "--dicom": request.dicom, "--dicomweb": request.web, "--alarm": request.alarm, "--runtime onnx":
        request.runtime == "onnx", "several processes": request.share.of > 1, "--images one": request.one,
        "--unit": request.units.unit,
    }  # fmt: skip
    for name, value in asked.items():
        if value:
            raise UserError(f"{where}, for which {name} is not made: leave it out, or name a single fold's model.")
    if beside(request.out, "key").exists():
        raise UserError(f"{beside(request.out, 'key')}: of another prediction. Choose another --out.")
