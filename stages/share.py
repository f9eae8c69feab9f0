"""Which process of how many does what of a prediction; and a team of one, which needs no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..finetune.scored import Scored


class Share(NamedTuple):
    """Process `rank`, counted from 0, `of` so many."""

    rank: int = 0
    of: int = 1

    @property
    def part(self) -> str:
        """In the name of its journal."""
        return f"-{self.rank}of{self.of}" if self.of > 1 else ""

    def rows(self, cases: int, batch: int) -> np.ndarray:
        """Return every `of`-th batch of the cases.

        Not every `of`-th case: the last digits of a score depend on what else is in the batch, and the table shall be
        that of one process.
        """
        rows = np.arange(cases)
        return rows[rows // batch % self.of == self.rank]


ALONE = Share()


class Alone:
    """One process, as a `processes.Team` of more.

    Args:
        out: The table that is made in the end.
    """

    share, first = ALONE, True

    def __init__(self, out: Path):
        self.out = out

    def agree(self, asked: str) -> None:
        """Return: nobody else was asked."""

    def gather(self, cases: int, width: int, batch: int) -> Iterator[Scored]:
        """Yield nothing: there are no others."""
        yield from ()
