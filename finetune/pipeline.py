"""The one way from cases to a table: scores of a predictor, calibration, a row per case, predicted labels.

Files, cached pixels, arrays, bags of tiles and exported graphs come this way, from the command and from Python.
"""

import numpy as np
import pandas as pd

from ..datasets.manifest.rois import ROIS, rois_beside
from ..datasets.manifest.tables import Asked, Manifest
from .scored import PREDICTED as PREDICTED
from .scored import WARNING as WARNING
from .scored import Predictor, cut_offs, predicted_columns
from .scored import Scored as Scored
from .scored import apart as apart
from .scored import calibrated as calibrated
from .scored import collected as collected
from .scored import score_width as score_width
from .scored import shown as shown


def predicted(cases: pd.DataFrame, truth: np.ndarray, predictor: Predictor, progress: bool = True) -> pd.DataFrame:
    """Return the predictions table of cases, one row each; of a failed one with its reason.

    Where a case with scores has something to warn of, there is a column `warning`. The thresholds stand in `attrs`.

    Args:
        cases: N rows with `id, patient, split` and what the predictor reads; where there is a column `shown`, that
            stands for the `path` in reasons.
        truth: (N, L) of 0, 1, NaN; of targets that are no labels theirs.
        predictor: Gives the scores.
        progress: Whether to show a bar.
    """
    table = pd.DataFrame(predicted_columns(cases, truth, predictor, progress))
    if not predictor.card.exclusive:
        table.attrs["thresholds"] = cut_offs(predictor.card)  # which an evaluation without validation cases takes
    return table


def manifest_cases(manifest: Manifest, asked: Asked) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the cases of a manifest with the `path` of each file, and (N, T) truth, NaN where unknown.

    Reasons show the id: names of files stay in the manifest. Where boxes of regions of interest lie beside it, `ROIS`
    names them.

    Args:
        manifest: N cases.
        asked: Labels or targets of the model; those that the manifest does not have are unknown.
    """
    files = [str(file) for file in manifest.files()]
    cases = manifest.table.assign(path=files, shown=manifest.table["id"])
    if boxes := rois_beside(manifest.path):
        cases[ROIS] = boxes
    return cases, manifest.truth(asked)
