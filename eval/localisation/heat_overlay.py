"""The heat map over the slide's overview as one image, with colour bar, scale bar and annotation."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...core.files import written_aside
from .heat_map import ScoreMap, colour_table, coloured

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

OPACITY = 0.75  # of the highest score
_FAINT = 0.15  # share of it that score 0 has, so that scored tissue can be told from what was left out
_OUTLINE_RGB = (0, 130, 60)
_INK, _MUTED, _PAPER = (27, 31, 36), (93, 102, 112), (253, 253, 251)
_NICE = (1, 2, 5)


def blended(overview: np.ndarray, found: ScoreMap, downsample: float, opacity: float = OPACITY) -> np.ndarray:
    """The overview (h, w, 3) uint8 with the map over it, the more opaque the higher the score.

    Args:
        overview: The whole slide.
        found: The map.
        downsample: Level-0 px per pixel of the overview.
        opacity: Of score 1, in 0..1.
    """
    values = found.sampled(overview.shape[1], overview.shape[0], downsample)
    alpha = opacity * np.where(np.isnan(values), 0, _FAINT + (1 - _FAINT) * np.nan_to_num(values))[..., None]
    return np.rint(overview * (1 - alpha) + coloured(values) * alpha).astype(np.uint8)


def nice_length(longest: float) -> float:
    """The largest of 1, 2, 5, 10, 20, ... that is not above `longest`."""
    power = 10 ** np.floor(np.log10(longest))
    return float(max(step * power for step in _NICE if step * power <= longest * (1 + 1e-9)))


def overlay_png(
    overview: np.ndarray,
    found: ScoreMap,
    mpp: float,
    *,
    downsample: float,
    outlines: Sequence[np.ndarray] = (),
    title: str = "",
    score_name: str = "tile score",
) -> bytes:
    """A PNG to look at or print.

    Args:
        overview: (h, w, 3) uint8, the whole slide.
        found: The map.
        mpp: Microns per level-0 px.
        downsample: Level-0 px per pixel of the overview.
        outlines: (K, 2) points x, y in level-0 px each, drawn as closed lines.
        title: Shown in the corner, such as the slide's id.
        score_name: What the colour bar says.
    """
    from PIL import Image, ImageDraw

    image = Image.fromarray(blended(overview, found, downsample))
    unit = max(12, round(max(image.size) / 70))  # of type and lines, so that large images stay readable
    _draw_outlines(ImageDraw.Draw(image), outlines, downsample, unit)
    page = Image.new("RGB", (max(image.width, 34 * unit), image.height + 4 * unit), _PAPER)
    page.paste(image, ((page.width - image.width) // 2, 0))
    _draw_legend(page, image.height, unit, mpp * downsample, title, score_name)
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def write_overlay(path: Path, *args, **options) -> None:
    """Write `overlay_png` of the same arguments to a file."""
    with written_aside(path) as aside:
        aside.write_bytes(overlay_png(*args, **options))


def _draw_outlines(draw: "ImageDraw.ImageDraw", outlines: Sequence[np.ndarray], downsample: float, unit: int) -> None:
    for outline in outlines:
        points = [tuple(point) for point in (np.vstack([outline, outline[:1]]) / downsample).tolist()]
        for colour, width in (((255, 255, 255), unit // 4 + 2), (_OUTLINE_RGB, unit // 6 + 1)):
            draw.line(points, fill=colour, width=width, joint="curve")


def _draw_legend(page: "Image.Image", top: int, unit: int, um_per_px: float, title: str, score_name: str) -> None:
    """Below the image: title left, colour bar in the middle, scale bar right."""
    from PIL import Image, ImageDraw, ImageFont

    draw, font = ImageDraw.Draw(page), ImageFont.load_default(unit)
    line, text = top + round(1.1 * unit), top + round(2.3 * unit)
    bar = Image.fromarray(np.tile(colour_table()[None], (unit // 2 + 1, 1, 1))).resize((10 * unit, unit // 2 + 1))
    left = page.width // 2 - 5 * unit
    page.paste(bar, (left, line))
    for value, anchor, x in (("0", "lt", left), (score_name, "mt", left + 5 * unit), ("1", "rt", left + 10 * unit)):
        draw.text((x, text), value, fill=_MUTED if anchor == "mt" else _INK, font=font, anchor=anchor)
    length_um = nice_length(9 * unit * um_per_px)
    length = round(length_um / um_per_px)
    right = page.width - unit
    draw.rectangle((right - length, line, right, line + max(2, unit // 5)), fill=_INK)
    words = f"{length_um / 1000:g} mm"
    draw.text((right - length / 2, text), words, fill=_INK, font=font, anchor="mt")
    longest = left - 2 * unit
    while title and draw.textlength(title, font) > longest:
        title = title[:-2].rstrip("…") + "…" if len(title) > 2 else ""
    draw.text((unit, line), title, fill=_INK, font=font, anchor="lt")
