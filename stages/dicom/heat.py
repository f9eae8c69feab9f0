"""Heat maps of a case for its results: of images from the files of `--explain`, of clips made here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DataError
from ...datasets.images.image_maps import case_file, read_maps
from .case import HeatMap, ResultCase, highest


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
        HeatMap(label, values, found.extent_px, found.width_px, found.height_px)
        for label, values in zip(found.labels, found.maps, strict=True)
    ]
    return replace(case, maps=tuple(heat), method=found.method)


def with_clip_maps(case: ResultCase, network: Any, card: Any) -> ResultCase:
    """Return a case with the maps of its clip and the frames that the model saw, for the findings that are shown.

    A network that has no maps of clips leaves the case as it is.
    """
    from ...explain.clip_maps import clip_maps

    wanted = [card.labels.index(each.label) for each in highest(case.findings)]
    try:
        found = clip_maps(network, card, case.sources[0], np.array(wanted, dtype=np.int64))
    except DataError:  # it was read a moment ago, and its row says that it went well
        return case
    if found is None:
        return case
    heat = [
        HeatMap(card.labels[place], values, found.extent_px, found.width_px, found.height_px, found.frames)
        for place, values in zip(wanted, found.maps, strict=True)
    ]
    return replace(case, maps=tuple(heat), method="gradient", frames=found.frames)
