"""The stage `predict` of an exported model, without torch and pandas: what `clinvit-runtime predict` runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.alone import file_alone
from ..core.documents import read_json
from ..core.errors import UserError
from ..core.files import file_sha256, write_json
from ..datasets.manifest.manifest_columns import manifest_columns
from ..datasets.manifest.plain_table import plain_table
from ..datasets.manifest.prediction_columns import Columns, write_columns
from ..datasets.manifest.unit_names import unit_names
from ..finetune.scored import predicted_columns
from .exported import AGGREGATION, Exported, read_exported
from .facts import beside
from .journal import Journal, remove_journals
from .journalled import JournalledPredictor
from .light_units import unit_columns
from .onnx_runtime import graph_predictor
from .requested_files import IDENTIFIERS, fingerprint, name_salt, pseudonyms, requested_files, write_key
from .share import Alone


@dataclass(frozen=True)
class LightPrediction:
    """What `predict_light` has made.

    Attributes:
        columns: Of the table, a row per case.
        left_out: How many files of folders are no cases, by reason.
        unwatched: Why no case is flagged as out of distribution; empty where cases are.
        notes: What else there is to say.
    """

    columns: Columns
    left_out: dict[str, int] = field(default_factory=dict)
    unwatched: str = ""
    notes: list[str] = field(default_factory=list)


def predict_light(
    model: Path, inputs: Sequence[str], out: Path, *, batch: int = 32, workers: int = 1, unit: str = "",
    identifiers: bool = False, resume: bool = False,
) -> LightPrediction:  # fmt: skip
    """Predict files, folders and globs, or one manifest.

    The table, its facts and the key of hashed names are those of `predict_stage`, but for what the model has seen
    before, which an exported folder does not know. Of a model of units larger than an image, rows are of these, and
    those of the images stand beside it. Rows are kept in `<out>.partial.jsonl` until the table is whole.

    Args:
        model: Folder that `export --to onnx` wrote, or a graph in it.
        inputs: Files, folders and globs, or one manifest CSV.
        out: The table to write, `.csv`.
        batch: Files per batch.
        workers: Reading processes, at least one.
        unit: What a case in a folder is; '' for what the model's card says.
        identifiers: Name DICOM files by their file names and patient numbers, not by hashes.
        resume: Go on where a killed prediction stopped.

    Raises:
        UserError: The folder is none, `out` is no `.csv`, or what is to go on was begun by another model.
        DataError: The manifest is none, or see `requested_files`.
    """
    if out.suffix.lower() != ".csv":
        raise UserError(f"--out {out}: predictions are written as .csv here.")
    card = read_exported(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    with file_alone(out):
        cases, truth, left_out = _cases(inputs, card, unit)
        if any(cases.get("dicom", ())) and not identifiers:
            key = beside(out, "key")
            salt = name_salt([key] if resume else [])
            cases |= pseudonyms(cases, salt)
            write_key(key, salt, cases["id"], cases["path"])
        sha256 = file_sha256(card.graph)
        said = dict(card.facts) | {"sha256": sha256, "cases": fingerprint(cases), "precision": card.graph.name}
        said |= {"left_out": left_out}
        if card.aggregation:
            unit_names(out, cases, card.aggregation["unit"])  # refused before anything is scored
            said |= {AGGREGATION: card.aggregation, "of": card.unit}
        notes: list[str] = []
        if resume and _finished(out, said):
            columns: Columns = dict(plain_table(out))
        else:
            alone = replace(card, thresholds={}, calibration={}) if card.aggregation else card
            columns = _columns(out, cases, truth, alone, sha256, batch, workers, resume)
            beside(out, "model").unlink(missing_ok=True)
            if card.aggregation:
                write_columns(out.with_name(f"{out.stem}.{card.unit}s{out.suffix}"), columns)
                columns, notes = unit_columns(columns, cases, card)
            write_columns(out, columns)
            write_json(beside(out, "model"), said)
        remove_journals(out)
    return LightPrediction(columns, left_out, card.unwatched, notes)


def _cases(inputs: Sequence[str], card: Exported, unit: str) -> tuple[Columns, np.ndarray, dict[str, int]]:
    """Return the cases that a user named, their truth, and how many files of folders are none."""
    if len(inputs) == 1 and inputs[0].lower().endswith(".csv"):
        return *manifest_columns(Path(inputs[0]), card.labels), {}
    cases, left_out = requested_files(inputs, unit or card.holds)
    return cases, np.full((len(cases["id"]), len(card.labels)), np.nan), left_out


def _columns(
    out: Path, cases: Columns, truth: np.ndarray, card: Exported, sha256: str, batch: int, workers: int, resume: bool
) -> Columns:
    """Return the columns of the table."""
    journal = Journal(out, {"model": sha256, "precision": card.graph.name}, resume)
    predictor = graph_predictor(card.graph, card, batch, workers, card.limit)
    kept = JournalledPredictor(predictor, journal, Alone(out), batch)
    columns = predicted_columns(cases, truth, kept, progress=False)
    return columns | {name: cases[name] for name in (*IDENTIFIERS, "view") if name in cases and "dicom" in cases}


def _finished(out: Path, said: dict[str, Any]) -> bool:
    """Whether the table of these cases by this graph is there."""
    facts = beside(out, "model")
    return out.is_file() and facts.is_file() and read_json(facts) == said
