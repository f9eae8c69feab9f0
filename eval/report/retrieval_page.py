"""The page of `clinvit retrieve`: how alike the nearest cases are, and queries with their neighbours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..statistics.intervals import NO_INTERVAL
from ..statistics.retrieval import Retrieval
from .formats import interval, many, number, signed
from .images import jpeg_uri

_CARD_PX = 320


@dataclass(frozen=True)
class Card:
    """A case as the page shows it.

    Attributes:
        id: Its id.
        image: Pixels as of `images.jpeg_uri`; None where it cannot be read.
        labels: Name, truth (None: unknown), and whether it is the query's (None where one of them is unknown).
        likeness: Cosine to the query; None of the query itself.
    """

    id: str
    image: np.ndarray | None
    labels: Sequence[tuple[str, bool | None, bool | None]]
    likeness: float | None = None

    @property
    def uri(self) -> str:
        """Return the image as a `data:` URI; empty for none."""
        return "" if self.image is None else jpeg_uri(self.image, _CARD_PX if self.image.ndim == 2 else 432)

    @property
    def words(self) -> list[tuple[str, str]]:
        """Return the findings in words, of one label its absence too, with whether it is as the query's."""
        several = len(self.labels) > 1
        shown = [each for each in self.labels if each[1]] if several else self.labels
        found = [(_words(label, own), self._style(alike)) for label, own, alike in shown]
        return [("no finding known", "")] if several and not found else found

    def _style(self, alike: bool | None) -> str:
        if alike is None or self.likeness is None:
            return ""
        return "alike" if alike else "unlike"


@dataclass(frozen=True)
class Query:
    """A query with its neighbours, nearest first."""

    case: Card
    neighbours: Sequence[Card]


def _words(label: str, own: bool | None) -> str:
    return f"{label}: unknown" if own is None else label if own else f"no {label}"


def retrieval_page(
    judged: Sequence[Retrieval], queries: Sequence[Query], k: int, facts: Mapping[str, Any]
) -> str:  # fmt: skip
    """Return the page as one self-contained HTML text.

    Args:
        judged: By label.
        queries: What is shown of cases.
        k: Neighbours of each.
        facts: `unit`, numbers of `queries` and `library`, the library's `split`, `left_out` and `features`.
    """
    from .templating import environment, inlined

    templates = environment()
    templates.filters.update(many=many, number=number, interval=interval, signed=signed)
    templates.globals.update(no_interval=NO_INTERVAL)
    return templates.get_template("retrieval.html.j2").render(
        judged=judged, queries=queries, k=k, facts=facts, css=inlined("report.css") + inlined("retrieval.css")
    )
