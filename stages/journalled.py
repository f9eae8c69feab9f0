"""A predictor that keeps what it has done in a journal, takes up what others have kept, and does only its own share."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from ..finetune.pipeline import Predictor, Scored, shown
from .journal import Journal
from .share import Team


class JournalledPredictor:
    """The scores of another predictor, of which nothing that is done is lost.

    Attributes:
        card: Of the model.

    Args:
        predictor: Does the work, batch after batch.
        journal: Keeps the scores of this process.
        team: The processes that share the work.
    """

    def __init__(self, predictor: Predictor, journal: Journal, team: Team):
        self.card, self._predictor, self._journal, self._team = predictor.card, predictor, journal, team

    def scores(self, cases: pd.DataFrame) -> Iterator[Scored]:
        """Yield the scores of the own share: what the journal holds, then what is new; process 0 gives those of all."""
        paths, own, done = cases["path"].tolist(), self._team.rows(), self._journal.done
        self._team.begin(self._journal)
        yield from self._kept(paths, own, done)
        left = [row for row in own if paths[row] not in done]
        with contextlib.closing(self._journal):
            found = self._predictor.scores(cases.iloc[left])
            if self._team.first:
                found = shown(found, len(own), self.card.unit, len(own) - len(left))
            for some in found:
                rows = [left[position] for position in some.positions]
                self._journal.append([paths[row] for row in rows], some.scores, some.reasons)
                yield some._replace(positions=rows)
            yield from self._kept(paths, range(len(paths)), self._team.gather())

    def _kept(self, paths: Sequence[str], rows: Iterable[int], lines: Mapping[str, dict]) -> Iterator[Scored]:
        nothing = [np.nan] * len(self.card.labels)
        for row in rows:
            if (line := lines.get(paths[row])) is not None:
                yield Scored([row], np.array([line.get("scores", nothing)]), [line["reason"]])
