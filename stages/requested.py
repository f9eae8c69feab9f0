"""What a user named on the command line, as cases: files, folders, globs, or a manifest."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..datasets.manifest.tables import read_manifest
from ..finetune.pipeline import manifest_cases
from .requested_files import requested_files

LEFT_OUT = "left_out"  # in `attrs` of the cases: how many files of the folders are none, by reason


def requested_cases(inputs: Sequence[str], labels: Sequence[str], unit: str) -> tuple[pd.DataFrame, np.ndarray]:
    """What a user named on the command line, as cases.

    The table `id, path, patient, split, shown` (what stands for the path in a reason: of a manifest the id), and (N, L)
    truth, NaN where unknown. Of files also `dicom`, whether their names may be those of people (`pseudonyms`),
    `number`, the patient by the header or '', and where there are headers `view`; the patient is the number, else the
    id. What of the folders is no case stands in `attrs[LEFT_OUT]`.

    Args:
        inputs: Files, folders, globs, or one manifest CSV.
        labels: Of the model.
        unit: What a case is, as of `datasets.manifest.contents`.
    """
    if len(inputs) == 1 and inputs[0].lower().endswith(".csv"):
        return manifest_cases(read_manifest(inputs[0]), labels)
    columns, left_out = requested_files(inputs, unit)
    cases = pd.DataFrame(columns)
    cases.attrs[LEFT_OUT] = left_out
    return cases, np.full((len(cases), len(labels)), np.nan)


def marked(table: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """Return predictions with what else is known of requested files: their `view`, and what was left out (`attrs`)."""
    if "dicom" in cases:
        if "view" in cases:
            table = table.assign(view=cases["view"])
        table.attrs[LEFT_OUT] = cases.attrs.get(LEFT_OUT, {})
    return table
