"""Labels that a program read from reports (CheXpert, MIMIC): 1 present, 0 absent, -1 uncertain, empty not mentioned."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ....core.errors import DataError
from ....datasets.manifest.columns import policy

UNCERTAIN = ("unknown", "ones", "zeros", "paper")
BLANKS = ("unknown", "zeros")
PAPER_ONES = ("Edema", "Atelectasis")  # -1 becomes 1 for these, 0 for the others


def report_labels(path: Path, raw: pd.DataFrame, labels: Sequence[str], uncertain: str, blanks: str) -> pd.DataFrame:
    """Turn cells into 0, 1 and NaN.

    Args:
        path: The table's path, for messages.
        raw: Cells as strings.
        labels: The columns.
        uncertain: What -1 becomes: "unknown" (NaN), "ones", "zeros", or "paper" (Edema and Atelectasis 1, the
            others 0, and blanks 0: LibAUC's mixture, which the thorax paper uses).
        blanks: What "not mentioned" becomes: "unknown" (NaN) or "zeros".

    Raises:
        DataError: An unknown policy, or a cell that is none of 1, 0, -1, empty.
    """
    uncertain, blanks = policy("uncertain", uncertain, UNCERTAIN), policy("blanks", blanks, BLANKS)
    columns = {}
    for label in labels:
        text = raw[label].str.strip()
        numbers = pd.to_numeric(text, errors="coerce").to_numpy(np.float64, copy=True)
        wrong = np.flatnonzero(~(np.isin(numbers, (-1, 0, 1)) | (text == "")))
        if len(wrong):
            raise DataError(
                f"{path}: row {wrong[0] + 2}: {label} is {text.iloc[wrong[0]]!r}; it is 1, 0, -1 (uncertain) or empty."
            )
        unsure, blank = numbers == -1, np.isnan(numbers)
        mixed = 1.0 if label in PAPER_ONES else 0.0
        numbers[unsure] = {"unknown": np.nan, "ones": 1.0, "zeros": 0.0, "paper": mixed}[uncertain]
        if blanks == "zeros" or uncertain == "paper":
            numbers[blank] = 0
        columns[label] = numbers
    return pd.DataFrame(columns, index=raw.index)
