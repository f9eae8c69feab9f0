"""Outlines that pathologists drew on a slide, as ASAP writes them (XML), and the tiles and pixels within them."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ...core.files import refuse_irregular, written_aside

# Groups of Camelyon16 and, the last of each, of Camelyon17.
TUMOUR_GROUPS = ("_0", "_1", "Tumor", "metastases")
EXCLUDED_GROUPS = ("_2", "normal")  # cut out of the former
WITHOUT_AREA = ("Dot", "PointSet", "Measurement")  # marks of ASAP that enclose nothing
SAMPLES_PER_TILE = 32  # along a side: a tile's share is then known to about a percent
MOST_MASK_PX = 16_000_000  # of the mask for `tumour_fraction`; its running sums take four times the bytes


@dataclass(frozen=True, eq=False)
class Outline:
    """One closed outline.

    Attributes:
        points: (K, 2) float64, x and y in level-0 pixels, K >= 3; the last joins the first.
        group: As in the file, such as "_0".
        name: As in the file.
        excluded: The area is cut out of the tumour (healthy tissue within it).
        holes: (K, 2) each, as `points`: what is cut out of this outline alone.
    """

    points: np.ndarray
    group: str
    name: str
    excluded: bool
    holes: tuple[np.ndarray, ...] = ()

    @property
    def rings(self) -> tuple[np.ndarray, ...]:
        """All its closed lines."""
        return self.points, *self.holes


def read_outlines(path: str | Path) -> list[Outline]:
    """Read the outlines of an ASAP XML, in file order. Marks without an area (dots, measurements) are left out.

    Raises:
        DataError: No such file, no ASAP XML, an outline with fewer than three points, a coordinate that is no number,
            or a group of which it is not known whether it is tumour.
    """
    path = Path(path)
    root = _parsed(path)
    if root.tag != "ASAP_Annotations":
        raise DataError(f"{path}: not an annotation file of ASAP (its root is <{root.tag}>, not <ASAP_Annotations>).")
    drawn = [mark for mark in root.iter("Annotation") if mark.get("Type", "Polygon") not in WITHOUT_AREA]
    return [_outline(path, mark, number) for number, mark in enumerate(drawn)]


def write_outlines(path: str | Path, outlines: Sequence[Outline]) -> None:
    """Write outlines as ASAP XML, atomically; coordinates keep three decimals."""
    root = ET.Element("ASAP_Annotations")
    marks, groups = ET.SubElement(root, "Annotations"), ET.SubElement(root, "AnnotationGroups")
    for outline in outlines:
        facts = {"Name": outline.name, "Type": "Polygon", "PartOfGroup": outline.group, "Color": "#F4FA58"}
        coordinates = ET.SubElement(ET.SubElement(marks, "Annotation", facts), "Coordinates")
        for order, (x, y) in enumerate(outline.points):
            ET.SubElement(coordinates, "Coordinate", {"Order": str(order), "X": f"{x:.3f}", "Y": f"{y:.3f}"})
    for name in dict.fromkeys(outline.group for outline in outlines):
        group = ET.SubElement(groups, "Group", {"Name": name, "PartOfGroup": "None", "Color": "#00ff00"})
        ET.SubElement(group, "Attributes")
    ET.indent(root, "\t")
    with written_aside(path) as aside:
        ET.ElementTree(root).write(aside, encoding="utf-8", xml_declaration=True)


def rasterise(outlines: Sequence[Outline], width_px: int, height_px: int, downsample: float) -> np.ndarray:
    """Return the tumour as a mask: every tumour outline filled, then every excluded one cut out.

    Args:
        outlines: In level-0 pixels; parts outside the slide are cut off.
        width_px: Of level 0.
        height_px: Of level 0.
        downsample: Level-0 pixels per pixel of the mask.

    Returns:
        (ceil(height_px / downsample), ceil(width_px / downsample)) bool; a pixel is set if its centre is within.
    """
    shape = math.ceil(height_px / downsample), math.ceil(width_px / downsample)
    return _tumour_mask(outlines, np.zeros(2), shape, downsample)


def tumour_fraction(coords: np.ndarray, tile_level0_px: int, outlines: Sequence[Outline]) -> np.ndarray:
    """Return the share of each tile that is tumour.

    Args:
        coords: (N, 2), x and y of the tiles' upper left corners in level-0 pixels.
        tile_level0_px: Side of the tiles in level-0 pixels.
        outlines: Of the slide.

    Returns:
        (N,) float32 within 0..1, from a mask with at least `SAMPLES_PER_TILE` pixels along a tile's side where the
        tumour is not so large that this would take much memory.
    """
    corners = np.asarray(coords, np.float64).reshape(-1, 2)
    tumour = [outline.points for outline in outlines if not outline.excluded]
    if not tumour or not len(corners):
        return np.zeros(len(corners), np.float32)
    points = np.concatenate(tumour)
    start, extent = points.min(axis=0), np.ptp(points, axis=0)
    downsample = max(tile_level0_px / SAMPLES_PER_TILE, math.sqrt(extent.prod() / MOST_MASK_PX))
    columns, rows = np.ceil(extent / downsample).astype(int)
    mask = _tumour_mask(outlines, start, (int(rows), int(columns)), downsample)
    sums = np.zeros((rows + 1, columns + 1), np.int32)  # summed area: [i, j] is the sum of mask[:i, :j]
    np.cumsum(mask, axis=0, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    side = tile_level0_px / downsample
    x, y = ((corners - start) / downsample).T
    within = _between(sums, x + side, y + side) - _between(sums, x, y + side)
    within -= _between(sums, x + side, y) - _between(sums, x, y)
    return np.clip(within / side**2, 0, 1).astype(np.float32)


def _parsed(path: Path) -> ET.Element:
    refuse_irregular(path, DataError)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None
    # Entities can make a small file fill the memory; ASAP writes none. Without zeros UTF-16 reads like ASCII.
    head = data.replace(b"\0", b"").upper()
    if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
        raise DataError(f"{path}: declares a document type or entities, which no annotation needs; it was not read.")
    try:
        return ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path}: no readable XML ({error}). Is the download whole?") from None


def _outline(path: Path, mark: ET.Element, number: int) -> Outline:
    name, group = mark.get("Name", str(number)), mark.get("PartOfGroup", "None")
    known = {known.lower(): known in EXCLUDED_GROUPS for known in (*TUMOUR_GROUPS, *EXCLUDED_GROUPS)}
    if group.lower() not in known:
        raise DataError(
            f"{path}: annotation {name!r} is of group {group!r}; tumour is {', '.join(TUMOUR_GROUPS)}, cut out of it "
            f"are {' and '.join(EXCLUDED_GROUPS)}. Set PartOfGroup to one of these."
        )
    try:
        cells = [[float(point.get(key, "")) for key in ("Order", "X", "Y")] for point in mark.iter("Coordinate")]
    except ValueError as error:
        raise DataError(f"{path}: annotation {name!r} has a coordinate that is no number ({error}).") from None
    values = np.array(cells, np.float64).reshape(-1, 3)
    if not np.isfinite(values).all():
        raise DataError(f"{path}: annotation {name!r} has a coordinate that is not finite. Draw it anew in ASAP.")
    if len(values) < 3:
        raise DataError(f"{path}: annotation {name!r} has {len(values)} points; an outline has three at least.")
    values = values[np.argsort(values[:, 0], kind="stable")]
    return Outline(values[:, 1:].copy(), group, name, known[group.lower()])


def _tumour_mask(
    outlines: Sequence[Outline], start: np.ndarray, shape: tuple[int, int], downsample: float
) -> np.ndarray:
    """Return (H, W) bool whose upper left corner is at `start` (x, y in level-0 pixels)."""
    mask = np.zeros(shape, bool)
    for outline in sorted(outlines, key=lambda outline: outline.excluded):
        _fill(mask, [(ring - start) / downsample for ring in outline.rings], not outline.excluded)
    return mask


def _fill(mask: np.ndarray, rings: Sequence[np.ndarray], value: bool) -> None:
    """Set the pixels whose centre is within a polygon, or within an odd number of its rings (by the even-odd rule).

    cv2 and PIL also set every pixel that the outline touches: at a downsample of 32 that is a ring of some 8 µm.

    Args:
        mask: (H, W) bool, changed in place.
        rings: (K, 2) each, x and y in pixels of the mask; 0 is the left edge of the first pixel.
        value: What the pixels become.
    """
    height, width = mask.shape
    points = np.concatenate(list(rings))
    ahead = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    first, last = np.ceil(points - 0.5).min(axis=0), np.ceil(points - 0.5).max(axis=0)
    left, top = np.clip(first, 0, (width, height)).astype(int)
    right, bottom = np.clip(last, 0, (width, height)).astype(int)
    if left >= right or top >= bottom:
        return
    downwards = points[:, 1:] <= ahead[:, 1:]
    low, high = np.where(downwards, points, ahead), np.where(downwards, ahead, points)
    rows = np.clip(np.ceil(np.stack([low[:, 1], high[:, 1]]) - 0.5), top, bottom).astype(int)
    crossed = rows[1] - rows[0]  # rows whose centre lies between the two ends of an edge
    edge = np.repeat(np.arange(len(points)), crossed)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + rows[0][edge]
    along = (row + 0.5 - low[edge, 1]) / (high[edge, 1] - low[edge, 1])
    x = low[edge, 0] + along * (high[edge, 0] - low[edge, 0])
    column = np.clip(np.ceil(x - 0.5), left, right).astype(int)  # the first pixel right of the crossing
    turns = np.zeros((bottom - top, right - left + 1), bool)
    np.logical_xor.at(turns, (row - top, column - left), True)
    inside = np.logical_xor.accumulate(turns, axis=1)[:, :-1]
    mask[top:bottom, left:right][inside] = value


def _between(sums: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return (N,) of (H + 1, W + 1) running sums at places between their pixels, bilinear.

    Exact for a mask of squares.
    """
    height, width = np.array(sums.shape) - 1
    x, y = np.clip(x, 0, width), np.clip(y, 0, height)
    column, row = np.minimum(x.astype(int), width - 1), np.minimum(y.astype(int), height - 1)
    u, v = x - column, y - row
    upper = sums[row, column] * (1 - u) + sums[row, column + 1] * u
    lower = sums[row + 1, column] * (1 - u) + sums[row + 1, column + 1] * u
    return upper * (1 - v) + lower * v
