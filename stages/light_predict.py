"""The stage `predict` of an exported model, without torch and pandas: what `clinvit-runtime predict` runs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.alone import file_alone
from ..core.errors import UserError
from ..core.files import file_sha256, write_json
from ..datasets.manifest.prediction_columns import Columns, write_columns
from ..finetune.scored import predicted_columns
from .exported import read_exported
from .facts import beside
from .onnx_runtime import graph_predictor
from .requested_files import IDENTIFIERS, name_salt, pseudonyms, requested_files, write_key


def predict_light(
    model: Path, inputs: Sequence[str], out: Path, *, batch: int = 32, workers: int = 1, unit: str = "",
    identifiers: bool = False,
) -> tuple[Columns, dict[str, int]]:  # fmt: skip
    """Predict files, folders and globs; return the columns, a row per case, and what of the folders is no case.

    The table, its facts and the key of hashed names are those of `predict_stage`, but for what the model has seen
    before, which an exported folder does not know.

    Args:
        model: Folder that `export --to onnx` wrote, or a graph in it.
        inputs: Files, folders and globs.
        out: The table to write, `.csv`.
        batch: Files per batch.
        workers: Reading processes, at least one.
        unit: What a case in a folder is; '' for what the model's card says.
        identifiers: Name DICOM files by their file names and patient numbers, not by hashes.

    Raises:
        UserError: The folder is none, `out` is no `.csv`, or the input is a manifest.
    """
    if out.suffix.lower() != ".csv":
        raise UserError(f"--out {out}: predictions are written as .csv here.")
    if len(inputs) == 1 and inputs[0].lower().endswith(".csv"):
        raise UserError(
            f"{inputs[0]}: manifests are read by the whole of ClinViT (pip install clinvit); name files or folders."
        )
    card = read_exported(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    with file_alone(out):
        cases, left_out = requested_files(inputs, unit or card.holds)
        if any(cases["dicom"]) and not identifiers:
            salt = name_salt()
            cases |= pseudonyms(cases, salt)
            write_key(beside(out, "key"), salt, cases["id"], cases["path"])
        truth = np.full((len(cases["id"]), len(card.labels)), np.nan)
        columns = predicted_columns(cases, truth, graph_predictor(card.graph, card, batch, workers), progress=True)
        columns |= {name: cases[name] for name in (*IDENTIFIERS, "view") if name in cases}
        facts = dict(card.facts) | {"sha256": file_sha256(card.graph), "precision": card.graph.name}
        beside(out, "model").unlink(missing_ok=True)
        write_columns(out, columns)
        write_json(beside(out, "model"), facts | {"left_out": left_out})
    return columns, left_out
