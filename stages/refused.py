"""Cases that fail before anything reads them: a study that a PACS did not give, or that has no image to score."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..finetune.pipeline import Predictor, Scored
from ..finetune.scored import score_width
from .requested_files import REFUSED


class RefusingPredictor:
    """The scores of another predictor, which is not asked for cases with a reason in the column `refused`.

    Attributes:
        card: Of the model.

    Args:
        predictor: Does the work.
    """

    def __init__(self, predictor: Predictor):
        self.card, self._predictor = predictor.card, predictor

    def scores(self, cases: pd.DataFrame) -> Iterator[Scored]:
        """Yield the reasons of the refused cases, then the scores of the others."""
        reasons = cases[REFUSED] if REFUSED in cases else pd.Series("", index=cases.index)
        refused, left = np.flatnonzero(reasons != ""), np.flatnonzero(reasons == "")
        nothing = np.full((len(refused), score_width(self.card)), np.nan)
        yield Scored(refused, nothing, reasons.iloc[refused].tolist())
        for some in self._predictor.scores(cases.iloc[left].reset_index(drop=True)):
            yield some._replace(positions=left[list(some.positions)])
