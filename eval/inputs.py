"""What an evaluation reads: predictions as tables in memory, files or run folders, and the manifest."""

import io
import os
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from ..datasets.manifest.tables import Manifest, Predictions, checked_predictions, read_manifest, read_predictions

PREDICTIONS, MANIFEST = "predictions.csv", "manifest.csv"
Table: TypeAlias = pd.DataFrame | Predictions | str | os.PathLike
Cases: TypeAlias = Manifest | str | os.PathLike


def open_predictions(source: Table, name: str) -> Predictions:
    """Return a checked predictions table.

    Args:
        source: A table as `predict` returns it, a `predictions.csv`, or the run folder that holds one.
        name: Of the model, for messages on a table in memory.

    Raises:
        DataError: It is no predictions table; see `read_predictions`.
    """
    if isinstance(source, Predictions):
        return source
    if isinstance(source, pd.DataFrame):
        text = io.StringIO(source.to_csv(index=False))  # cells as a file has them, so that both are checked alike
        return checked_predictions(Path(name), pd.read_csv(text, dtype=str, keep_default_na=False))
    path = Path(source)
    return read_predictions(path / PREDICTIONS if path.is_dir() else path)


def open_cases(data: Cases) -> Manifest:
    """Return the manifest: itself, read from its file, or from the folder that holds it.

    Raises:
        DataError: It is no manifest; see `read_manifest`.
    """
    if isinstance(data, Manifest):
        return data
    path = Path(data)
    return read_manifest(path / MANIFEST if path.is_dir() else path)
