"""A map laid over its image: for a page, and as a PNG of its own with colour bar, case, label and score."""

import io

import numpy as np

from .heat_map import colour_table, coloured
from .heat_overlay import OPACITY
from .image_map import ImageMap

_BOX_RGB = (64, 224, 255)
_INK, _MUTED, _PAPER = (27, 31, 36), (93, 102, 112), (253, 253, 251)
_NARROWEST = 34  # letters


def blended(image: np.ndarray, found: ImageMap) -> np.ndarray:
    """(h, w, 3) uint8: the image with the map over it, the more opaque the higher.

    Args:
        image: (h, w) or (h, w, 3), uint8 or float in 0..1, the whole image at any size.
        found: The map; it is divided by its maximum.
    """
    pixels = image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 1) * 255)
    pixels = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    values = np.nan_to_num(found.sampled(pixels.shape[1], pixels.shape[0]))
    values = values / values.max() if values.max() > 0 else values
    alpha = OPACITY * values[..., None]
    return np.rint(pixels * (1 - alpha) + coloured(values) * alpha).astype(np.uint8)


def with_boxes(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 with boxes drawn on it; (K, 4) left, top, right and bottom in its own px."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    draw, unit = ImageDraw.Draw(image), max(1, round(max(image.size) / 150))
    for left, top, right, bottom in boxes.tolist():
        draw.rectangle((left - unit, top - unit, right + unit, bottom + unit), outline=(0, 0, 0), width=unit)
        draw.rectangle((left, top, right, bottom), outline=_BOX_RGB, width=unit)
    return np.asarray(image)


def overlay_png(image: np.ndarray, found: ImageMap, *, case: str, label: str, score: float) -> bytes:
    """A PNG to look at or print: `blended`, and below it the case's id, the label with its score, and the colours."""
    from PIL import Image, ImageDraw, ImageFont

    shown = Image.fromarray(blended(image, found))
    unit = max(12, round(max(shown.size) / 40))  # of the type, so that large images stay readable
    page = Image.new("RGB", (max(shown.width, _NARROWEST * unit), shown.height + 5 * unit), _PAPER)
    page.paste(shown, ((page.width - shown.width) // 2, 0))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(unit)
    first, second = shown.height + unit, shown.height + round(2.8 * unit)
    bar_width = 11 * unit
    right = page.width - unit
    bar = Image.fromarray(np.tile(colour_table()[None], (unit // 2 + 1, 1, 1))).resize((bar_width, unit // 2 + 1))
    page.paste(bar, (right - bar_width, first + unit // 4))
    for words, anchor, x in (("0", "lt", right - bar_width), ("max", "rt", right)):
        draw.text((x, second), words, fill=_INK, font=font, anchor=anchor)
    draw.text((right - bar_width / 2, second), "relevance", fill=_MUTED, font=font, anchor="mt")
    room = page.width - bar_width - 3 * unit
    for y, words in ((first, case), (second, f"{label}: score {score:.3f}")):
        draw.text((unit, y), _fitting(words, room, draw, font), fill=_INK, font=font, anchor="lt")
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def _fitting(words: str, room: float, draw, font) -> str:
    """The text, cut in its middle where it is too long: ids often differ at their ends."""
    words = " ".join(words.split())
    if draw.textlength(words, font) <= room:
        return words
    for kept in range(len(words) - 1, 1, -1):
        short = f"{words[: kept // 2]}…{words[len(words) - (kept - kept // 2) :]}"
        if draw.textlength(short, font) <= room:
            return short
    return "…"
