"""The stage `recalibrate`: a copy of a model whose scores are calibrated on a new site's cases."""

import csv
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.alone import folder_alone
from ..core.errors import DataError, UserError
from ..core.files import copy_folder, file_sha256
from ..datasets.manifest.tables import Predictions, read_predictions
from .facts import facts_beside, refuse_groups

if TYPE_CHECKING:
    from ..eval.statistics.scaling import Scaling

DEFAULT = "platt"


def recalibrate_stage(
    model: Path, data: Path, out: Path, method: str | None = None, split: str | None = None
) -> dict[str, "Scaling"]:
    """Write a copy of a model with a calibration for the cases of another site; the model itself stays as it is.

    The new calibration is put on top of the one that the model had. Thresholds move with the scores, so that every
    case is predicted as before; of exclusive classes, whose scores keep no common order, they are chosen anew.

    Args:
        model: Model folder.
        data: Predictions of this model, or a manifest of images or clips, which is predicted first.
        out: Folder of the copy; it must not exist, or be empty.
        method: `platt`, `intercept`, `temperature`, or the default: `platt`, of exclusive classes `temperature`.
        split: Of the predictions; None for val where the table has it, else for all rows.

    Returns:
        The calibration by label, as the copy has it.

    Raises:
        UserError: The folder exists, the table is of another model, or the method is not for these labels.
        DataError: There is no scored case with known truth, or no label has patients enough.
    """
    from ..eval.statistics.scaling import check_method
    from ..mil.cards import load_any_card

    card = load_any_card(model)
    refuse_groups(card, "recalibration")
    method = method or ("temperature" if card.exclusive else DEFAULT)
    check_method(method, card.exclusive)
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists; name a new folder for the copy, or remove it.")
    table, path = _predictions(model, data, out)
    _refuse_other_model(card, table, path)
    val = len(table.rows("val").scored()) > 0
    chosen = split or ("val" if val else "")
    rows = (table.rows(chosen) if chosen else table).scored()
    new = _fitted(rows, card, method, f"{chosen or 'all'} of {path.name}")
    calibration = {label: _composed(card.calibration.get(label), own) for label, own in new.items()}
    facts = {"cases": len(rows), "patients": rows.table["patient"].nunique(), "method": method, "table": path.name}
    changed = replace(
        card,
        calibration={label: asdict(own) for label, own in calibration.items()},
        thresholds=_thresholds(card, new, rows),
        data=card.data | {"recalibrated": facts | {"split": chosen or "all", "sha256": file_sha256(path)}},
    )
    with folder_alone(out):
        copy_folder(Path(model), out)
        changed.write(out)
    return calibration


def _predictions(model: Path, data: Path, out: Path) -> tuple[Predictions, Path]:
    """Return the predictions: the table itself, or those of a manifest, written beside the copy."""
    path = Path(data)
    if path.is_dir():
        path /= "predictions.csv" if (path / "predictions.csv").is_file() else "manifest.csv"
    if not _is_manifest(path):
        return read_predictions(path), path
    from ..finetune.model import ModelCard
    from ..mil.cards import load_any_card
    from .predict import Request, predict_stage

    if not isinstance(load_any_card(model), ModelCard):
        raise UserError(f"{path}: a manifest of slides: predict it first, and give the predictions.csv.")
    table = out.with_name(f"{out.name}-predictions.csv")
    predict_stage(Request(Path(model), [os.fspath(path)], table))
    return read_predictions(table), table


def _is_manifest(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except (OSError, ValueError, csv.Error):
        return False  # the reader of predictions says what is wrong
    return "path" in header and "status" not in header


def _refuse_other_model(card, table: Predictions, path: Path) -> None:
    """Raise where the scores are not those that this model gives."""
    if set(table.labels) != set(card.labels):
        raise UserError(
            f"{path}: scores of {', '.join(table.labels)}, but the model has {', '.join(card.labels)}. Give "
            "predictions of this model."
        )
    facts = facts_beside(path)
    if facts and facts.get("calibration", {}) != card.calibration:
        raise UserError(
            f"{path}: predicted with another calibration than the model has: a new one would be put on top of the "
            "wrong one. Predict the cases with this model."
        )


def _fitted(rows: Predictions, card, method: str, source: str) -> dict[str, "Scaling"]:
    """Return the new scaling by label; one with too few patients in a class is left as it is."""
    from ..eval.statistics.resampling import PatientBootstrap
    from ..eval.statistics.reservations import FEW, too_few
    from ..eval.statistics.scaling import Scaling, fit_scaling

    places = [rows.labels.index(label) for label in card.labels]
    truth, scores = rows.truth()[:, places], rows.scores()[:, places]
    if not len(rows) or np.isnan(truth).all():
        raise DataError(f"{rows.path}: no scored case with known truth to calibrate on ({source}).")
    few = PatientBootstrap(rows.table["patient"]).smaller_class(truth)
    fitted = fit_scaling(truth, scores, method, card.exclusive, source)
    if card.exclusive:
        if (patients := rows.table["patient"].nunique()) < FEW:
            raise DataError(f"{rows.path}: cases of {patients} patients, fewer than {FEW}: too few to calibrate on.")
        return dict(zip(card.labels, fitted))
    found = {
        label: own if n >= FEW else Scaling("none", 1.0, 0.0, source, own.cases, too_few(int(n)).partition(": ")[2])
        for label, own, n in zip(card.labels, fitted, few)
    }
    if all(own.method == "none" for own in found.values()):
        why = "; ".join(dict.fromkeys(own.reason for own in found.values()))
        raise DataError(f"{rows.path}: no label can be calibrated on these cases: {why}.")
    return found


def _composed(before: dict | None, new: "Scaling") -> "Scaling":
    """Return the scaling of the network's own scores: the model's first, then the new one."""
    from ..eval.statistics.scaling import Scaling

    if before is None or before["method"] == "none":
        return new
    if new.method == "none":
        return Scaling(**before)
    return replace(new, slope=new.slope * before["slope"], intercept=new.slope * before["intercept"] + new.intercept)


def _thresholds(card, new: dict[str, "Scaling"], rows: Predictions) -> dict[str, dict]:
    """Return the thresholds by label, on the new scores."""
    from ..eval.statistics.operating_points import choose
    from ..eval.statistics.scaling import scaled

    found = {}
    for label, own in card.thresholds.items():
        value = own.get("value")
        if value is None or new[label].method == "none":
            found[label] = own
        elif not card.exclusive:
            found[label] = own | {"value": float(scaled(np.array([[value]]), [new[label]])[0, 0])}
        else:
            places = [rows.labels.index(each) for each in card.labels]
            scores = scaled(rows.scores()[:, places], [new[each] for each in card.labels], True)
            i = card.labels.index(label)
            point = choose(rows.truth()[:, places][:, [i]], scores[:, [i]], own.get("how") or "youden")[0]
            again = None if np.isnan(point.threshold) else float(point.threshold)
            found[label] = own | {"value": again, "split": new[label].split}
    return found
