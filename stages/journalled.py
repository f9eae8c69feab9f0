"""A predictor that keeps what it has done in a journal, takes up what others have kept, and does only its own share."""

import contextlib
import json
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from ..finetune.scored import Predictor, Scored, collected, score_width, shown
from .journal import Journal, journal_of, remove_journals
from .processes import Team


class JournalledPredictor:
    """The scores of another predictor, of which nothing that is done is lost, made by one process or several.

    Attributes:
        card: Of the model.

    Args:
        predictor: Does the work.
        journal: Keeps the scores of this process.
        team: The processes that share the work, connected.
        batch: Cases per batch.
    """

    def __init__(self, predictor: Predictor, journal: Journal, team: Team, batch: int):
        self.card, self._predictor, self._journal, self._team = predictor.card, predictor, journal, team
        self._batch = batch

    def scores(self, cases: pd.DataFrame) -> Iterator[Scored]:
        """Yield in process 0 the scores of all cases, in the others those of their shares.

        Raises:
            UserError: Another process was asked for something else.
            RunError: Another process has ended before its share was done.
        """
        paths, team = cases["path"].tolist(), self._team
        own = team.share.rows(len(paths), self._batch)
        self._begin(paths, own)
        with contextlib.closing(self._journal):
            if team.first:
                yield from self._own(cases, paths, own)
                yield from team.gather(len(paths), score_width(self.card), self._batch)
            else:
                scores, reasons = collected(self._own(cases, paths, own), len(paths), score_width(self.card))
                team.send(scores[own], [reasons[row] for row in own])
                yield Scored(own, scores[own], [reasons[row] for row in own])

    def _begin(self, paths: Sequence[str], own: np.ndarray) -> None:
        """Make the journal anew when all processes have read those of an earlier prediction."""
        team, journal = self._team, self._journal
        team.agree(json.dumps([self._batch, *paths]))
        journal.begin([paths[row] for row in own])
        team.agree("begun")
        if team.first:
            parts = [team.share._replace(rank=number).part for number in range(team.share.of)]
            remove_journals(team.out, [journal_of(team.out, part) for part in parts])

    def _own(self, cases: pd.DataFrame, paths: Sequence[str], own: np.ndarray) -> Iterator[Scored]:
        """Yield the scores of the own rows: what is kept, then what is new."""
        done, nothing = self._journal.done, [np.nan] * score_width(self.card)
        for row in own:
            if (line := done.get(paths[row])) is not None:
                yield Scored([row], np.array([line.get("scores", nothing)]), [line["reason"]])
        left = np.array([row for row in own if paths[row] not in done], dtype=np.int64)
        found = self._predictor.scores(cases.iloc[left])
        if self._team.first:
            found = shown(found, len(own), self.card.unit, len(own) - len(left))
        for some in found:
            rows = left[list(some.positions)]
            self._journal.append([paths[row] for row in rows], some.scores, some.reasons)
            yield some._replace(positions=rows)
