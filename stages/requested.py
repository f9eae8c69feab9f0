"""What a user named on the command line, as cases: files, folders, globs, or a manifest."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..core.errors import UserError
from ..datasets.manifest.tables import Asked, read_manifest, truth_width
from ..finetune.pipeline import manifest_cases
from .requested_files import CHOSEN, IDENTIFIERS, Expanded, columns_of, left_out_of, requested_files

LEFT_OUT = "left_out"  # in `attrs` of the cases: how many files of the folders are none, by reason


def requested_cases(
    inputs: Sequence[str], asked: Asked, unit: str, one: bool = False
) -> tuple[pd.DataFrame, np.ndarray]:
    """What a user named on the command line, as cases.

    The table of `requested_files.columns_of` (of a manifest `id, path, patient, split, shown`; `shown`, what stands for
    the path in a reason, is the id), and (N, T) truth, NaN where unknown. What of the folders is no case stands in
    `attrs[LEFT_OUT]`.

    Args:
        inputs: Files, folders, globs, or one manifest CSV.
        asked: Labels or targets of the model.
        unit: What a case is, as of `datasets.manifest.contents`.
        one: Of each DICOM study, keep the image that `datasets.images.studies` chooses; `chosen` says why.
    """
    if len(inputs) == 1 and inputs[0].lower().endswith(".csv"):
        if one:
            raise UserError(f"{inputs[0]}: a manifest says what is scored: leave --images out.")
        return manifest_cases(read_manifest(inputs[0]), asked)
    columns, left_out = requested_files(inputs, unit, one)
    cases = pd.DataFrame(columns)
    cases.attrs[LEFT_OUT] = left_out
    return cases, np.full((len(cases), truth_width(asked)), np.nan)


def cases_of(found: Expanded) -> pd.DataFrame:
    """Return files as cases, as of `requested_cases`."""
    cases = pd.DataFrame(columns_of(found))
    cases.attrs[LEFT_OUT] = left_out_of(found)
    return cases


def marked(table: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """Return predictions with what else is known of requested files: study, view; and what was left out (`attrs`)."""
    if "dicom" in cases:
        table = table.assign(**{name: cases[name] for name in (*IDENTIFIERS, "view", CHOSEN) if name in cases})
        table.attrs[LEFT_OUT] = cases.attrs.get(LEFT_OUT, {})
    return table
