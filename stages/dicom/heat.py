"""Heat maps of a case for its results: of images from files of `--explain`, of clips made here, of slides by tiles."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DataError
from ...datasets.images.image_maps import ImageMaps, case_file, read_maps
from .case import REGION, HeatMap, ResultCase

HIGHEST_PIXELS = 0.9  # of a map's maximum: so high are some pixels of the image, between the middles of its cells


def with_image_maps(case: ResultCase, maps: Path) -> ResultCase:
    """Return a case with the maps of its image; without any where it could not be explained.

    Args:
        case: The case.
        maps: Folder of `image_maps` files.
    """
    file = case_file(maps, case.id, ".h5")
    if not file.is_file():
        return case
    found = read_maps(file)
    if found.model != case.algorithm.weights:  # left by another model
        return case
    heat = [
        HeatMap(label, values, found.extent_px, found.width_px, found.height_px, region=_region(found, place))
        for place, (label, values) in enumerate(zip(found.labels, found.maps, strict=True))
    ]
    return replace(case, maps=tuple(heat), method=found.method)


def _region(found: ImageMaps, place: int) -> float:
    """Return the share of a map's maximum from which on a pixel is the finding; of probabilities, by their threshold.

    The highest pixels always are: a finding that is present is somewhere.
    """
    if not found.highest or not found.highest[place]:
        return REGION
    return min(HIGHEST_PIXELS, found.thresholds[place] / found.highest[place])


def with_clip_maps(case: ResultCase, network: Any, card: Any, reader: Any = None) -> ResultCase:
    """Return a case with the maps of its clip and the frames that the model saw, for the findings that are shown.

    A network that has no maps of clips leaves the case as it is; `reader` as of `clip_maps`.
    """
    from ...explain.clip_maps import clip_maps

    wanted = [card.labels.index(each.label) for each in case.worth_showing()]
    try:
        found = clip_maps(network, card, case.sources[0], np.array(wanted, dtype=np.int64), reader)
    except DataError:  # it was read a moment ago, and its row says that it went well
        return case
    if found is None:
        return case
    heat = [
        HeatMap(card.labels[place], values, found.extent_px, found.width_px, found.height_px, found.frames)
        for place, values in zip(wanted, found.maps, strict=True)
    ]
    return replace(case, maps=tuple(heat), method="gradient", frames=found.frames)


def with_slide_maps(
    case: ResultCase, scores: np.ndarray, labels: Sequence[str], features: Path, mpp: float | None,
    tile_level0_px: int | None,
) -> ResultCase:  # fmt: skip
    """Return a case with the scores of its tiles as maps; without any where the file does not say where they lie.

    Args:
        case: Of a slide.
        scores: (N, L) of its tiles, in 0..1.
        labels: L names.
        features: File of the tiles' features.
        mpp: Microns per level-0 px by the manifest; None for what the slide says.
        tile_level0_px: Side of a tile in level-0 px, where the file does not say it.
    """
    from ...datasets.slides.tile_reading import slide_tiles
    from ...eval.localisation.heat_map import score_map

    try:
        grid = slide_tiles(features, case.sources[0], mpp, tile_level0_px)
    except DataError:  # features of other tools without coordinates: a score, but no map
        return case
    heat = []
    for label, column in zip(labels, scores.astype(np.float64).T, strict=True):
        found = score_map(grid.coords, column.clip(0, 1), grid.tile_level0_px)
        rows, columns = found.values.shape
        extent = found.x0, found.y0, found.x0 + columns * found.cell_px, found.y0 + rows * found.cell_px
        heat.append(HeatMap(label, np.nan_to_num(found.values), extent, grid.width_px, grid.height_px))
    return replace(case, maps=tuple(heat), method="tiles")
