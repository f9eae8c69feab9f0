"""The diagnostic cascade: is the retina detached, and if so, is the macula? A rule over two models.

ERDES section "diagnostic pipeline" (pipe/diagnostic_pipeline.py), with thresholds from validation in place of 0.5. A
clip that fails in either model is failed: it never counts as "no detachment". Two models of the same units (an eye of
several clips) make a cascade of these.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...core.errors import UserError
from ...core.files import write_json
from ...datasets.manifest.seen import TRAINED_ON, case_hash, read_hashes
from ...datasets.manifest.tables import Predictions, predictions_table, read_predictions, write_predictions
from ...stages.facts import beside

if TYPE_CHECKING:
    from ...finetune.model import ModelCard
    from ...stages.units import Asked

OUTCOMES = ("no detachment", "macula intact", "macula detached")
MEANING = {
    "no detachment": "1 = no retinal detachment (normal, or vitreous detachment)",
    "macula intact": "1 = retinal detachment, macula intact",
    "macula detached": "1 = retinal detachment, macula detached",
}
# Any of the three tasks against detachment gives the first model; the first found is taken.
DETACHMENT, MACULA = ("non_rd_vs_rd", "normal_vs_rd", "pvd_vs_rd"), "macula_detached_vs_intact"


def cascade(
    detachment: Predictions, macula: Predictions, thresholds: tuple[float, float], labels: tuple[str, str]
) -> pd.DataFrame:
    """Join two models' scores of the same clips.

    Args:
        detachment: Scores of the first model; clips that only one of the models has are left out.
        macula: Scores of the second model.
        thresholds: Detachment from the first score on; macula intact from the second on.
        labels: The label of each model that is used.

    Returns:
        A predictions table of `OUTCOMES`, which exclude each other: probabilities 1 - p, p * q and p * (1 - q), p of
        detachment and q of an intact macula; `decision` by the thresholds.
    """
    second = macula.table.set_index("id")
    both = detachment.table[detachment.table["id"].isin(second.index)].reset_index(drop=True)
    second = second.loc[both["id"]].reset_index()
    p, q = both[f"p_{labels[0]}"].to_numpy(float), second[f"p_{labels[1]}"].to_numpy(float)
    detached, intact = both[f"y_{labels[0]}"].to_numpy(float), second[f"y_{labels[1]}"].to_numpy(float)
    reasons = np.where(
        both["status"] == "failed", both["reason"], second["reason"].where(second["status"] == "failed", "")
    )
    decision = np.where(p < thresholds[0], OUTCOMES[0], np.where(q >= thresholds[1], OUTCOMES[1], OUTCOMES[2]))
    return predictions_table(
        both, OUTCOMES, _truth(detached, intact), np.stack([1 - p, p * q, p * (1 - q)], axis=1), reasons.tolist(),
        decision=decision.tolist(),
    )  # fmt: skip


def _truth(detached: np.ndarray, intact: np.ndarray) -> np.ndarray:
    """Return (N, 3) of 0, 1, NaN: known where detachment is absent, or present with a known macula."""
    truth = np.full((len(detached), 3), np.nan)
    truth[detached == 0] = (1, 0, 0)
    truth[(detached == 1) & (intact == 1)] = (0, 1, 0)
    truth[(detached == 1) & (intact == 0)] = (0, 0, 1)
    return truth


def predict_cascade(
    detachment: Path, macula: Path, inputs: Sequence[str], out: Path, batch: int = 32, workers: int = 0,
    audit: Path | None = None, units: "Asked | None" = None,
) -> pd.DataFrame:  # fmt: skip
    """Run both models over files, folders, globs or a manifest and write the cascade's predictions table.

    Clips that either model was trained on get the split `train`, whatever the manifest says: `test` then holds clips
    that neither model has seen.

    Args:
        detachment: Model folder.
        macula: Model folder; the same one where a model has both labels.
        inputs: Files, folders, globs or a manifest.
        out: The table; the two models' own are written beside it.
        batch: Clips per batch.
        workers: Reading processes.
        audit: Log to which is added who asked for what of which model; None for none.
        units: Units larger than a clip; None for what the models say.

    Raises:
        UserError: A model lacks its label or threshold, or its thresholds are of other units.
    """
    from ...stages.predict import Request, predict_stage
    from ...stages.units import IMAGES

    asked = units or IMAGES
    _check_units(detachment, macula, asked)
    tables = []
    for model, name in ((detachment, "detachment"), (macula, "macula")):
        path = out.with_name(f"{out.stem}-{name}.csv")
        predict_stage(Request(model, inputs, path, batch, workers, audit=audit, units=asked))
        tables.append(read_predictions(path))
    return _finished(detachment, macula, tables, out)


def cascade_of_runs(detachment: Path, macula: Path, out: Path) -> pd.DataFrame:
    """Return the cascade of two `finetune` runs, over the validation and test clips that both have scored."""
    from ...stages.units import IMAGES

    _check_units(detachment / "model", macula / "model", IMAGES)
    tables = [read_predictions(run / "predictions.csv") for run in (detachment, macula)]
    return _finished(detachment / "model", macula / "model", tables, out)


def _finished(detachment: Path, macula: Path, tables: list[Predictions], out: Path) -> pd.DataFrame:
    labels = detachment_label(detachment), _require(macula, (MACULA,))
    thresholds = _threshold(detachment, labels[0]), _threshold(macula, labels[1])
    from ...finetune.model import load_card

    table = cascade(*tables, thresholds, labels)
    hashes = (read_hashes(folder / TRAINED_ON) for folder in (detachment, macula))
    seen = frozenset().union(*(each or () for each in hashes))
    card = load_card(detachment)
    if card.aggregation:
        table.loc[table["patient"].isin(_patients_of(tables, card, seen)), "split"] = "train"
        named = (card.aggregation["unit"], f"{card.unit}s", f"failed_{card.unit}s")
        counts = [name for name in named if name in tables[0].table and name not in table]
        table = table.merge(tables[0].table[["id", *counts]], on="id", how="left")
        facts = {
            "model": "cascade", "labels": list(OUTCOMES), "what_one_means": MEANING, "exclusive": True,
            "thresholds": {}, "calibration": {}, "aggregation": card.aggregation, "of": card.unit,
        }  # fmt: skip
        write_json(beside(out, "model"), facts)
    else:
        table.loc[table["id"].map(case_hash).isin(seen), "split"] = "train"
    write_predictions(out, table)
    return table


def _patients_of(tables: Sequence[Predictions], card: "ModelCard", seen: frozenset[str]) -> set[str]:
    """Return the patients of clips that were trained on, for splits are by patient."""
    from ...stages.units import images_table

    found: set[str] = set()
    for table in tables:
        clips = read_predictions(images_table(table.path, card)).table
        found |= set(clips.loc[clips["id"].map(case_hash).isin(seen), "patient"])
    return found


def _check_units(detachment: Path, macula: Path, asked: "Asked") -> None:
    """Refuse models whose thresholds are of other units than those that are asked for, or of different ones.

    Raises:
        UserError: They are.
    """
    from ...finetune.model import load_card
    from ...stages.units import aggregation_of

    cards = [load_card(model) for model in (detachment, macula)]
    wanted = [asked.units(card) for card in cards]
    for model, card, units in zip((detachment, macula), cards, wanted):
        if units is not None and card.aggregation != aggregation_of(units):
            own = card.aggregation.get("unit", card.unit)
            raise UserError(
                f"{model}: its threshold is for a {own}, not for a {units.unit} by {units.rule or 'max'}: "
                f"fine-tune both models with --unit {units.unit} (and the same --unit-rule)."
            )
    one, other = (card.aggregation.get("unit", card.unit) for card in cards)
    if one != other:
        raise UserError(f"{detachment} is a model of a {one}, {macula} of a {other}: a cascade is of one of them.")


def detachment_label(model: Path) -> str:
    """Return the label of a model that says whether the retina is detached."""
    return _require(model, DETACHMENT)


def _require(model: Path, wanted: Sequence[str]) -> str:
    from ...finetune.model import load_card

    labels = load_card(model).labels
    usable = [label for label in wanted if label in labels]
    if not usable:
        raise UserError(
            f"{model}: the model has the labels {', '.join(labels)}; the cascade needs {' or '.join(wanted)}."
        )
    return usable[0]


def _threshold(model: Path, label: str) -> float:
    from ...finetune.model import load_card

    value = load_card(model).thresholds.get(label, {}).get("value")
    if value is None:
        raise UserError(
            f"{model}: no threshold for {label!r}: it is chosen on validation clips of both classes. "
            "Fine-tune with such a validation split."
        )
    return value
