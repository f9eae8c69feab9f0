"""One self-contained HTML page per slide: its overview with the heat map over it, to move, zoom and ask.

Everything is inside the file (images as JPEG, numbers as base64), and its content security policy forbids any
request, so that it can be passed on and opened on a machine without a network. The overview is at most `OVERVIEW_PX`
long; full resolution is there for the highest tiles.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ...core.files import write_text
from ..localisation.heat_map import ScoreMap, colour_table, score_map
from ..localisation.tiles import checked_tiles
from .images import data_uri, jpeg_uri, thumbnail

OVERVIEW_PX = 4000
OVERVIEW_BYTES = 3_000_000  # of the JPEG; its quality falls until it fits
GALLERY = 12
_GALLERY_PX = 448
_QUALITIES = (85, 75, 65, 50, 35)


@dataclass(frozen=True)
class SlideMap:
    """What a slide's page shows.

    Attributes:
        id: Of the slide.
        overview: (h, w, 3) uint8, the whole slide; longer than 4,000 px it is made smaller.
        width_px, height_px, mpp: Of level 0.
        coords: (N, 2) top left corners of the tiles, x, y in level-0 px.
        scores: (N,) in 0..1.
        tile_level0_px: Side of a tile.
        threshold: Of the tile score; a button hides the tiles below. NaN for none.
        score_name: What a tile's score is: `tumor tile score`, `attention`.
        verdict: The slide's prediction in a sentence, such as `tumour 0.93 (threshold 0.41): positive`.
        truth: What is known about the slide, in words; empty for nothing.
        outlines: Annotation, (K, 2) points x, y in level-0 px each.
        gallery: Tile number to its pixels (t, t, 3) uint8; `highest_tiles` says which are wanted.
        facts: Anything else worth a line: model, encoder, stain.
        quality: (N,) numbers by name, to be shown instead of the scores: sharpness, shares of folds, pen and bubbles.
    """

    id: str
    overview: np.ndarray
    width_px: int
    height_px: int
    mpp: float
    coords: np.ndarray
    scores: np.ndarray
    tile_level0_px: int
    threshold: float = float("nan")
    score_name: str = "tile score"
    verdict: str = ""
    truth: str = ""
    outlines: Sequence[np.ndarray] = ()
    gallery: Mapping[int, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, np.ndarray] = field(default_factory=dict)


def highest_tiles(scores: np.ndarray, most: int = GALLERY) -> np.ndarray:
    """Return the numbers of the tiles with the highest scores, highest first, the earlier of equal ones first."""
    return np.argsort(-np.asarray(scores), kind="stable")[:most]


def write_slide_page(path: Path, slide: SlideMap) -> None:
    """Write the page of one slide.

    Raises:
        DataError: There is no tile, a tile begins outside of the slide, or a score is not in 0..1.
    """
    write_text(path, slide_page(slide))


def slide_page(slide: SlideMap) -> str:
    """Return the page as HTML; the arguments and errors of `write_slide_page`."""
    from .templating import environment, inlined

    coords, scores = checked_tiles(slide.coords, slide.scores)
    outside = ((coords < 0) | (coords >= (slide.width_px, slide.height_px))).any(axis=1)
    if outside.any():
        x, y = coords[outside.argmax()]
        raise DataError(
            f"{slide.id}: the tile at ({x}, {y}) begins outside of the slide of {slide.width_px} x "
            f"{slide.height_px} px. Were the tiles cut from another slide?"
        )
    return (
        environment()
        .get_template("slide_page.html.j2")
        .render(
            slide=slide,
            css=inlined("report.css") + inlined("slide_page.css"),
            script=inlined("slide_page.js"),
            overview=_overview_uri(slide.overview),
            data=_data(slide, coords, scores),
            gallery=[
                {"tile": int(tile), "score": float(scores[tile]), "x": int(coords[tile][0]), "y": int(coords[tile][1])}
                | {"uri": jpeg_uri(pixels, _GALLERY_PX, 85)}
                for tile, pixels in sorted(slide.gallery.items(), key=lambda item: -scores[item[0]])
            ],
            facts=_facts(slide, scores),
        )
    )


def _data(slide: SlideMap, coords: np.ndarray, scores: np.ndarray) -> dict:
    """Return what the script reads: numbers as they are, arrays as base64 of little-endian bytes."""
    found, cells = _cells(slide, coords, scores)
    layers = [_layer(slide, coords, slide.score_name, scores)]
    layers += [_layer(slide, coords, name, values) for name, values in slide.quality.items()]
    return {
        "width": slide.width_px,
        "height": slide.height_px,
        "mpp": slide.mpp,
        "tile": slide.tile_level0_px,
        "threshold": None if np.isnan(slide.threshold) else float(slide.threshold),
        "map": {
            "x": found.x0,
            "y": found.y0,
            "cell": found.cell_px,
            "width": cells.shape[1],
            "height": cells.shape[0],
        },
        "coords": _base64(coords.astype("<i4")),
        "layers": layers,
        "colours": _base64(colour_table()),
        "outlines": [np.rint(outline).astype(int).ravel().tolist() for outline in slide.outlines],
    }


def _layer(slide: SlideMap, coords: np.ndarray, name: str, values: np.ndarray) -> dict:
    """Return (N,) values as a layer: scores and shares from 0 to 1, others from 0 to their largest."""
    most = max(1.0, float(values.max()))
    _, cells = _cells(slide, coords, np.asarray(values, np.float64) / most)
    raw = _base64(np.asarray(values, "<f4"))
    return {"name": name, "least": 0.0, "most": most, "cells": _base64(cells), "values": raw}


def _cells(slide: SlideMap, coords: np.ndarray, values: np.ndarray) -> tuple[ScoreMap, np.ndarray]:
    """Return the map of (N,) values in 0..1, and it as uint8: 0 is "no tile", 1 to 255 are 0 to 1."""
    found = score_map(coords, values, slide.tile_level0_px)
    return found, np.where(np.isnan(found.values), 0, 1 + np.rint(np.nan_to_num(found.values) * 254)).astype(np.uint8)


def _facts(slide: SlideMap, scores: np.ndarray) -> list[tuple[str, str]]:
    um = slide.mpp / 1000
    lines = [
        ("slide", slide.id),
        (
            "size",
            f"{slide.width_px:,} × {slide.height_px:,} px, {slide.width_px * um:.1f} × {slide.height_px * um:.1f} mm",
        ),
        ("scale", f"{slide.mpp:.4g} µm per pixel"),
        ("tiles", f"{len(scores):,} of {slide.tile_level0_px * slide.mpp:.4g} µm ({slide.tile_level0_px} px)"),
        (slide.score_name, f"highest {scores.max():.3f}, median {np.median(scores):.3f}"),
    ]
    if not np.isnan(slide.threshold):
        above = int((scores >= slide.threshold).sum())
        lines.append((f"{slide.score_name} ≥ {slide.threshold:.3f}", f"{above:,} tiles ({above / len(scores):.1%})"))
    for name, values in slide.quality.items():
        lines.append((name, f"median {np.median(values):.3g}, {values.min():.3g} to {values.max():.3g}"))
    return [*lines, *((str(name), str(value)) for name, value in slide.facts.items())]


def _overview_uri(pixels: np.ndarray) -> str:
    """Return the overview as a JPEG of at most 3 MB."""
    small = thumbnail(pixels, OVERVIEW_PX)
    while True:
        for quality in _QUALITIES:
            uri = data_uri(small, "JPEG", quality=quality, optimize=True)
            if len(uri) * 3 / 4 <= OVERVIEW_BYTES:
                return uri
        small = thumbnail(np.asarray(small), max(small.size) * 3 // 4)


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
