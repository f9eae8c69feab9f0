"""Boxes in a person's table, a row each: which columns hold them, and the boxes of each file."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError
from .boxes import Box
from .cells import as_numbers
from .columns import joined_name
from .inventory import note

# Names of the four columns, and whether they are two corners (else a corner and a size).
_FORMS = (
    (("xmin", "ymin", "xmax", "ymax"), True),
    (("x1", "y1", "x2", "y2"), True),
    (("x0", "y0", "x1", "y1"), True),
    (("left", "top", "right", "bottom"), True),
    (("x", "y", "w", "h"), False),
    (("x", "y", "width", "height"), False),
    (("xmin", "ymin", "width", "height"), False),
    (("left", "top", "width", "height"), False),
)
_FRAMES = (
    ("framewidth", "frameheight"), ("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("imagew", "imageh"),
)  # fmt: skip


def box_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of left, top, and right and bottom or width and height; () where there are none."""
    named = _by_plain_name(columns)
    form = next((names for names, _ in _FORMS if all(name in named for name in names)), ())
    return tuple(named[name] for name in form)


def boxes_of(
    path: Path, raw: pd.DataFrame, root: Path, files: pd.Series, findings: Sequence[Sequence[str]], table: pd.DataFrame
) -> tuple[Box, ...]:
    """Return the boxes of the cases that were kept; what is no box is said in the notes.

    Args:
        path: The table's path, for messages.
        raw: N rows of cells.
        root: What `files` are relative to.
        files: N paths.
        findings: N labels that are 1 in the row; a box of several findings is nobody's.
        table: The cases, with `id` and `path`; gets the notes.

    Raises:
        DataError: A corner is no number.
    """
    columns = box_columns(raw.columns)
    corners = any(names for names, two in _FORMS if two and _plain(columns) == names)
    numbers = np.stack([_numbers(path, raw, column) for column in columns], axis=1)
    frames = _frames(raw)
    ids = dict(zip(table["path"], table["id"], strict=True))
    found, unclear, outside = [], 0, 0
    sizes: dict[str, tuple[float, float] | None] = {}
    for row, (file, names, values) in enumerate(zip(files, findings, numbers, strict=True)):
        if np.isnan(values).any() or file not in ids or not names:
            continue
        if file not in sizes:
            sizes[file] = frames[row] if frames is not None else _size(root / file)
        frame = sizes[file]
        if len(names) > 1:
            unclear += 1
        elif frame is not None:
            right, bottom = values[2:] if corners else values[:2] + values[2:]
            left, top, right, bottom = np.clip([*values[:2], right, bottom], 0, [*frame, *frame])
            if left < right and top < bottom:
                found.append(Box(ids[file], names[0], left, top, right - left, bottom - top, *frame))
            else:
                outside += 1
    if found:
        note(table, f"{len(found):,} boxes of {len({box.id for box in found}):,} images go into boxes.csv.")
    for count, why in (
        (sum(size is None for size in sizes.values()), "images have boxes but no size that can be read"),
        (unclear, "boxes belong to several findings"),
        (outside, "boxes have no area within their image"),
    ):
        if count:
            note(table, f"{count:,} {why}; these boxes were left out.")
    return tuple(dict.fromkeys(found))


def _plain(columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(re.sub("^(?:bbox|box)|px$", "", joined_name(column)) for column in columns)


def _by_plain_name(columns: Sequence[str]) -> dict[str, str]:
    return dict(zip(reversed(_plain(columns)), reversed(list(columns)), strict=True))


def _numbers(path: Path, raw: pd.DataFrame, column: str) -> np.ndarray:
    values = as_numbers(raw[column])
    wrong = np.flatnonzero(values.isna() & raw[column].str.contains(r"\d"))
    if len(wrong):
        raise DataError(
            f"{path}: row {wrong[0] + 2}: {column} is {raw[column].iloc[wrong[0]]!r}, not a number of px of a box."
        )
    return values.to_numpy(np.float64)


def _frames(raw: pd.DataFrame) -> list[tuple[float, float] | None] | None:
    """Return width and height of the image of each row, where the table has columns for them."""
    named = _by_plain_name(raw.columns)
    names = next((names for names in _FRAMES if all(name in named for name in names)), None)
    if names is None:
        return None
    numbers = zip(*(as_numbers(raw[named[name]]).tolist() for name in names), strict=True)
    return [size if min(size) > 0 else None for size in numbers]


def _size(path: Path) -> tuple[float, float] | None:
    """Return width and height of an image by its header; None where it cannot be read."""
    from ..images.radiographs import radiograph_size

    try:
        height, width = radiograph_size(path)
    except DataError:
        return None
    return float(width), float(height)
