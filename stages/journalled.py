"""A predictor that keeps what it has done in a journal, takes up what others have kept, and does only its own share."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..finetune.scored import Predictor, Scored, collected, noting_regions, score_width, shown
from .journal import Journal, journal_of, remove_journals

if TYPE_CHECKING:
    from .processes import Team
    from .share import Alone


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

    def __init__(self, predictor: Predictor, journal: Journal, team: "Team | Alone", batch: int):
        self.card, self._predictor, self._journal, self._team = predictor.card, predictor, journal, team
        self._batch = batch

    def scores(self, cases: Any) -> Iterator[Scored]:
        """Yield in process 0 the scores of all cases, in the others those of their shares.

        Args:
            cases: Columns or DataFrame, as of `Predictor`.

        Raises:
            UserError: Another process was asked for something else.
            RunError: Another process has ended before its share was done.
        """
        paths, team = list(cases["path"]), self._team
        own = team.share.rows(len(paths), self._batch)
        self._begin(paths, own)
        with contextlib.closing(self._journal):
            if team.first:
                yield from self._own(cases, paths, own)
                yield from team.gather(len(paths), score_width(self.card), self._batch)
            else:
                regions: dict[int, str] = {}
                found = noting_regions(self._own(cases, paths, own), regions)
                scores, reasons = collected(found, len(paths), score_width(self.card))
                parts = [regions.get(row, "") for row in own] if any(regions.values()) else []
                mine = Scored(own, scores[own], [reasons[row] for row in own], parts)
                team.send(mine)
                yield mine

    def _begin(self, paths: Sequence[str], own: np.ndarray) -> None:
        """Make the journal anew when all processes have read those of an earlier prediction."""
        team, journal = self._team, self._journal
        team.agree(json.dumps([self._batch, *paths]))
        journal.begin([paths[row] for row in own])
        team.agree("begun")
        if team.first:
            parts = [team.share._replace(rank=number).part for number in range(team.share.of)]
            remove_journals(team.out, [journal_of(team.out, part) for part in parts])

    def _own(self, cases: Any, paths: Sequence[str], own: np.ndarray) -> Iterator[Scored]:
        """Yield the scores of the own rows: what is kept, then what is new.

        Of a batch that a killed process had kept in part, all are scored again, in that batch: the last digits of a
        score depend on what else is in it, those of an int8 graph even the first, and the table shall be that of a
        prediction that nothing has stopped.
        """
        done, nothing = self._journal.done, [np.nan] * score_width(self.card)
        batches = [own[start : start + self._batch] for start in range(0, len(own), self._batch)]
        kept = [row for rows in batches if all(paths[row] in done for row in rows) for row in rows]
        for row in kept:
            line = done[paths[row]]
            region = [line["region"]] if "region" in line else []
            yield Scored([row], np.array([line.get("scores", nothing)]), [line["reason"]], region)
        left = np.setdiff1d(own, kept)
        found = self._predictor.scores(_rows_of(cases, left))
        if self._team.first:
            found = shown(found, len(own), self.card.unit, len(own) - len(left))
        for some in found:
            rows = left[list(some.positions)]
            cropped = [some.regions] if some.regions else []
            self._journal.append([paths[row] for row in rows], some.scores, some.reasons, *cropped)
            yield some._replace(positions=rows)


def _rows_of(cases: Any, rows: np.ndarray) -> Any:
    """Return some rows of columns or of a DataFrame."""
    if hasattr(cases, "iloc"):
        return cases.iloc[rows]
    return {name: [values[row] for row in rows] for name, values in cases.items()}
