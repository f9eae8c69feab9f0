"""The cases where a model was most wrong, with their images and what the model looked at."""

from collections.abc import Callable, Sequence

import numpy as np

from ...core.errors import UserError
from ..localisation.overlay import over_image
from ..statistics.results import ModelResult, wrong_cases
from .context import Context
from .images import CASE_PX, jpeg_uri, thumbnail

MOST_WRONG = 2  # cases per label and kind


def wrong_section(model: ModelResult, labels: Sequence[str], context: Context) -> list[dict]:
    """Return per label the most wrong cases.

    Each has its image as a data URI or a word why there is none, and the same image under the map of the label where
    the context has one.
    """
    shown = []
    for i, row in enumerate(model.labels):
        if row.label in labels:
            cases = [
                {"kind": kind, "id": case.id, "score": case.score} | _images(case.id, row.label, context)
                for kind, table in wrong_cases(model, i, MOST_WRONG).items()
                for case in table.itertuples()
            ]
            shown.append({"label": row.label, "threshold": row.point.threshold, "cases": cases})
    return shown


def _images(case: str, label: str, context: Context) -> dict[str, str]:
    """Return `uri`, `map_uri` and `why`, texts that may be empty."""
    image = context.image
    if image is None:
        return {"uri": "", "map_uri": "", "why": ""}
    pixels, why = _read(lambda: image(case), "image")
    if pixels is None:
        return {"uri": "", "map_uri": "", "why": why or "no image"}
    grid, why = _read(lambda: context.image_map(case, label), "map")
    return {
        "uri": jpeg_uri(pixels),
        "map_uri": "" if grid is None else jpeg_uri(over_image(np.asarray(thumbnail(pixels, CASE_PX)), grid)),
        "why": why,
    }


def _read(read: Callable, what: str) -> tuple:
    try:
        return read(), ""
    except (UserError, OSError) as error:
        return None, f"{what} not readable: {error}"
