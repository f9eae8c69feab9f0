"""A map laid over its image or its slide: as pixels for a page, and as a PNG of its own with a legend below."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .heat_map import ScoreMap, colour_table, coloured
from .image_map import ImageMap

if TYPE_CHECKING:
    from PIL import Image

OPACITY = 0.75  # of the highest score
_FAINT = 0.15  # share of it that score 0 has on a slide: scored tissue differs from what was left out
_OUTLINE_RGB, _BOX_RGB = (0, 130, 60), (64, 224, 255)
_INK, _MUTED, _PAPER = (27, 31, 36), (93, 102, 112), (253, 253, 251)
_NARROWEST, _SLIDE_LETTERS = 34, 70  # letters
_NICE = (1, 2, 5)


def over_image(image: np.ndarray, found: ImageMap) -> np.ndarray:
    """Return (h, w, 3) uint8: the image with the map over it, the more opaque the higher.

    Args:
        image: (h, w) or (h, w, 3), uint8 or float in 0..1, the whole image at any size.
        found: The map; it is divided by its maximum.
    """
    pixels = image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 1) * 255)
    pixels = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    values = np.nan_to_num(found.sampled(pixels.shape[1], pixels.shape[0]))
    values = values / values.max() if values.max() > 0 else values
    return _blended(pixels, values, OPACITY * values)


def over_slide(overview: np.ndarray, found: ScoreMap, downsample: float, opacity: float = OPACITY) -> np.ndarray:
    """Return (h, w, 3) uint8: the overview with the map over it, the more opaque the higher the score.

    Args:
        overview: (h, w, 3) uint8, the whole slide.
        found: The map.
        downsample: Level-0 px per pixel of the overview.
        opacity: Of score 1, in 0..1.
    """
    values = found.sampled(overview.shape[1], overview.shape[0], downsample)
    alpha = opacity * np.where(np.isnan(values), 0, _FAINT + (1 - _FAINT) * np.nan_to_num(values))
    return _blended(overview, values, alpha)


def with_boxes(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return (h, w, 3) uint8 with boxes drawn on it; (K, 4) left, top, right and bottom in its own px."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    draw, unit = ImageDraw.Draw(image), max(1, round(max(image.size) / 150))
    for left, top, right, bottom in boxes.tolist():
        draw.rectangle((left - unit, top - unit, right + unit, bottom + unit), outline=(0, 0, 0), width=unit)
        draw.rectangle((left, top, right, bottom), outline=_BOX_RGB, width=unit)
    return np.asarray(image)


def image_png(image: np.ndarray, found: ImageMap, *, case: str, label: str, score: float, said: str = "") -> bytes:
    """Return a PNG: `over_image`, and below it the case's id, `said` or the label with its score, and the colours."""
    legend = _Legend(over_image(image, found), letters=40, lines=5)
    unit, page, bar = legend.unit, legend.page, 11 * legend.unit
    first, second = legend.top + unit, legend.top + round(2.8 * unit)
    legend.colours(page.width - unit - bar, first + unit // 4, second, bar, ("0", "relevance", "max"))
    room = page.width - bar - 3 * unit
    legend.text(case, unit, first, room)
    legend.text(said or f"{label}: score {score:.3f}", unit, second, room)
    return legend.png()


def slide_png(
    overview: np.ndarray,
    found: ScoreMap,
    mpp: float,
    *,
    downsample: float,
    outlines: Sequence[np.ndarray] = (),
    title: str = "",
    score_name: str = "tile score",
) -> bytes:
    """Return a PNG: `over_slide` with the annotation, and below it the title, the colours and a scale bar.

    Args:
        overview: (h, w, 3) uint8, the whole slide.
        found: The map.
        mpp: Microns per level-0 px.
        downsample: Level-0 px per pixel of the overview.
        outlines: (K, 2) points x, y in level-0 px each, drawn as closed lines.
        title: Shown in the corner, such as the slide's id.
        score_name: What the colour bar says.
    """
    outlined = _with_outlines(over_slide(overview, found, downsample), [each / downsample for each in outlines])
    legend = _Legend(outlined, letters=_SLIDE_LETTERS, lines=4)
    unit, page, bar = legend.unit, legend.page, 10 * legend.unit
    first, second, left = legend.top + round(1.1 * unit), legend.top + round(2.3 * unit), page.width // 2 - bar // 2
    legend.colours(left, first, second, bar, ("0", score_name, "1"))
    legend.scale(page.width - unit, first, second, mpp * downsample)
    legend.text(title, unit, first, left - 2 * unit)
    return legend.png()


def _with_outlines(pixels: np.ndarray, outlines: Sequence[np.ndarray]) -> np.ndarray:
    """Return (h, w, 3) uint8 with closed lines drawn through (K, 2) points x, y in its own px."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    draw, unit = ImageDraw.Draw(image), _unit(image, _SLIDE_LETTERS)
    for outline in outlines:
        points = [tuple(point) for point in np.vstack([outline, outline[:1]]).tolist()]
        for colour, width in (((255, 255, 255), unit // 4 + 2), (_OUTLINE_RGB, unit // 6 + 1)):
            draw.line(points, fill=colour, width=width, joint="curve")
    return np.asarray(image)


def _unit(image: "Image.Image", letters: int) -> int:
    """Return the size of type and width of lines, so that large images stay readable."""
    return max(12, round(max(image.size) / letters))


def nice_length(longest: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, ... that is not above `longest`."""
    power = 10 ** np.floor(np.log10(longest))
    return float(max(step * power for step in _NICE if step * power <= longest * (1 + 1e-9)))


def _blended(pixels: np.ndarray, values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return (h, w, 3) uint8 pixels under the colours of (h, w) values with (h, w) opacities."""
    alpha = alpha[..., None]
    return np.rint(pixels * (1 - alpha) + coloured(values) * alpha).astype(np.uint8)


class _Legend:
    """An image on a page of paper, with room for so many lines of text below it.

    Args:
        pixels: (h, w, 3) uint8.
        letters: How many fit along the longer side.
        lines: Below the image.
    """

    def __init__(self, pixels: np.ndarray, letters: int, lines: int):
        from PIL import Image, ImageDraw, ImageFont

        image = Image.fromarray(pixels)
        self.unit, self.top = _unit(image, letters), image.height
        size = max(image.width, _NARROWEST * self.unit), image.height + lines * self.unit
        self.page = Image.new("RGB", size, _PAPER)
        self.page.paste(image, ((self.page.width - image.width) // 2, 0))
        self.draw = ImageDraw.Draw(self.page)
        self.font = ImageFont.load_default(self.unit)

    def colours(self, left: int, bar_top: int, text_top: int, width: int, names: tuple[str, str, str]) -> None:
        """Draw the colour bar, and below it what its start, its middle and its end are."""
        from PIL import Image

        height = self.unit // 2 + 1
        bar = Image.fromarray(np.tile(colour_table()[None], (height, 1, 1))).resize((width, height))
        self.page.paste(bar, (left, bar_top))
        for words, colour, anchor, x in zip(
            names, (_INK, _MUTED, _INK), ("lt", "mt", "rt"), (left, left + width / 2, left + width)
        ):
            self.draw.text((x, text_top), words, fill=colour, font=self.font, anchor=anchor)

    def scale(self, right: int, bar_top: int, text_top: int, um_per_px: float) -> None:
        """Draw a scale bar of a round length that ends at `right`."""
        length_um = nice_length(9 * self.unit * um_per_px)
        length = round(length_um / um_per_px)
        box = (right - length, bar_top, right, bar_top + max(2, self.unit // 5))
        self.draw.rectangle(box, fill=_INK)
        words, middle = f"{length_um / 1000:g} mm", right - length / 2
        self.draw.text((middle, text_top), words, fill=_INK, font=self.font, anchor="mt")

    def text(self, words: str, left: int, top: int, room: float) -> None:
        """Write a line, cut in its middle where it is too long: ids often differ at their ends."""
        whole = shown = " ".join(words.split())
        for kept in range(len(whole) - 1, 0, -1):
            if self.draw.textlength(shown, self.font) <= room:
                break
            shown = f"{whole[: kept // 2]}…{whole[len(whole) - (kept - kept // 2) :]}" if kept > 1 else "…"
        self.draw.text((left, top), shown, fill=_INK, font=self.font, anchor="lt")

    def png(self) -> bytes:
        """Return the page as a PNG file's bytes."""
        file = io.BytesIO()
        self.page.save(file, "PNG")
        return file.getvalue()
