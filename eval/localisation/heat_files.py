"""The heat map for other programs: GeoJSON for QuPath, and a pyramidal TIFF that lies over the slide by its scale."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ...core.extras import require
from ...core.files import write_text, written_aside
from .heat_map import ScoreMap, coloured
from .regions import regions
from .tiles import checked_tiles

_TILE_PX = 256
_OUTLINE_RGB = (200, 0, 0)


def write_geojson(path: Path, found: ScoreMap, threshold: float, size_px: tuple[int, int], label: str) -> int:
    """Write regions at or above a threshold as annotations for QuPath (0.4 and later), in level-0 px.

    Args:
        path: The file.
        found: The map. Edges are those of its cells, cut at the edge of the slide.
        threshold: In 0..1.
        size_px: Width and height of the slide.
        label: What the score is of: the classification in QuPath.

    Returns:
        How many regions were written.
    """
    features = []
    with np.errstate(invalid="ignore"):
        above = found.values >= threshold
    for i, region in enumerate(regions(above)):
        values = found.values.ravel()[region.cells]
        rings = [_level0(ring, found, size_px) for ring in (region.outer, *region.holes)]
        measurements = {
            "Mean score": _rounded(values.mean()),
            "Highest score": _rounded(values.max()),
            "Area px^2": float(_area(rings[0]) - sum(map(_area, rings[1:]))),
        }
        features.append(_feature(rings, "annotation", measurements, label))
        features[-1]["properties"]["name"] = f"{label} {i + 1}"
    _write_features(path, features)
    return len(features)


def write_tiles_geojson(
    path: Path, coords: np.ndarray, scores: np.ndarray, tile_level0_px: int, label: str, threshold: float
) -> None:
    """Write every tile as a QuPath tile: a detection with a measurement `<label> score`, for the measurement maps.

    Tiles at or above the threshold are classified as `label`; those below have no class. Each has the colour of its
    score.

    Raises:
        DataError: Numbers of coordinates and scores differ, or a score is not in 0..1.
    """
    coords, scores = checked_tiles(coords, scores)
    colours = coloured(scores).tolist()
    features = []
    for (x, y), score, colour in zip(coords.tolist(), scores.tolist(), colours):
        right, bottom = x + tile_level0_px, y + tile_level0_px
        ring = np.array([(x, y), (right, y), (right, bottom), (x, bottom)])
        features.append(_feature([ring], "tile", {f"{label} score": _rounded(score)}, label * (score >= threshold)))
        features[-1]["properties"]["color"] = colour
    _write_features(path, features)


def write_heat_tiff(path: Path, found: ScoreMap, size_px: tuple[int, int], mpp: float, downsample: int = 16) -> None:
    """Write the coloured map of the whole slide as a tiled pyramid with its scale, for OpenSlide and QuPath.

    Args:
        path: The file, `.tif`.
        found: The map; white where it has no score.
        size_px: Width and height of the slide at level 0.
        mpp: Microns per level-0 px.
        downsample: Level-0 px per pixel of the file. The file lies over the slide when its scale is heeded; the last
            pixels may stick out by less than one of its own.
    """
    from PIL import Image

    tifffile = require("tifffile", "slides", path)

    width, height = (-(-side // downsample) for side in size_px)
    level = Image.fromarray(coloured(found.sampled(width, height, downsample)))
    with written_aside(path) as aside, tifffile.TiffWriter(aside) as file:
        step = 1
        while True:
            per_cm = 1e4 / (mpp * downsample * step)
            file.write(
                np.asarray(level),
                photometric="rgb",
                tile=(_TILE_PX, _TILE_PX),
                compression="adobe_deflate",
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=0 if step == 1 else 1,
                metadata=None,
                software="ClinViT",
            )
            if max(level.size) <= _TILE_PX:
                break
            level, step = level.reduce(2), step * 2


def _level0(ring: np.ndarray, found: ScoreMap, size_px: tuple[int, int]) -> np.ndarray:
    points = ring * found.cell_px + (found.x0, found.y0)
    return np.clip(points, 0, np.asarray(size_px, dtype=np.float64))


def _feature(rings: list[np.ndarray], kind: str, measurements: dict[str, float], label: str = "") -> dict[str, Any]:
    """Return a polygon; its class in QuPath is `label`, or none."""
    classification = {"classification": {"name": label, "color": list(_OUTLINE_RGB)}} if label else {}
    closed = [[[_rounded(x), _rounded(y)] for x, y in (*ring, ring[0])] for ring in rings]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": closed},
        "properties": {"objectType": kind, **classification, "measurements": measurements},
    }


def _write_features(path: Path, features: list[dict]) -> None:
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False, allow_nan=False) for feature in features)
    write_text(path, '{"type": "FeatureCollection", "features": [\n' + lines + "\n]}\n")


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())) / 2


def _rounded(value: float) -> float | int:
    value = round(float(value), 4)
    return int(value) if value.is_integer() else value
