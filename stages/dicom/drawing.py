"""Images of a case with its heat maps, for people: what a secondary capture and the pages of the PDF show."""

import io
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from pydicom import Dataset

from ...eval.localisation.image_map import ImageMap
from ...eval.localisation.overlay import image_png
from .case import Estimate, Finding, HeatMap, ResultCase
from .equipment import NOTE, reading_note
from .maps import shown_findings
from .slide_maps import is_slide

IMAGE_PX = 768  # shorter side of an image that is shown; slides are shown whole, with this as their longer side
_BANNER, _LETTERS = (176, 0, 32), (255, 255, 255)
_INK, _PAPER = (27, 31, 36), (253, 253, 251)


class Drawn(NamedTuple):
    """An image for people.

    Attributes:
        label: The finding whose map is laid over it; '' where there is no map.
        pixels: (h, w, 3) uint8.
    """

    label: str
    pixels: np.ndarray


def drawn(case: ResultCase, source: Dataset) -> Iterator[Drawn]:
    """Yield the image of a case with the map of each finding shown; the bare image where there is no map.

    Below each stand the finding, its decision and how it is to be read; above, that it is not for diagnosis.

    Args:
        case: The case.
        source: Of its first file.
    """
    findings = shown_findings(case)
    if not findings:
        pixels = _as_rgb(_image(case, source, None))
        yield Drawn("", _with_notes(pixels, _lines(case, [*case.judged(), *case.estimated()])))
    for finding in findings:
        found = case.shown()[finding.label]
        frame = _strongest(found)
        grid = found.values if frame is None else found.values[frame]
        image = _image(case, source, None if frame is None else found.frames[frame])
        map_ = ImageMap(grid, found.extent_px, found.width_px, found.height_px)
        said, score = "", 0.0
        if isinstance(finding, Estimate):
            said = finding.values[0].words()
        else:
            score = finding.probability or 0.0
        page = image_png(image, map_, case=case.id, label=finding.label, score=score, said=said)
        yield Drawn(finding.label, _with_notes(_decoded(page), _lines(case, [finding])))


def verdict(finding: Finding | Estimate) -> str:
    """Return a finding in a line: its probability and what was decided by which; or the values of an estimate."""
    if isinstance(finding, Estimate):
        return f"{finding.label}: {'; '.join(each.words() for each in finding.values) or 'nothing is known'}"
    if finding.probability is None:
        return f"{finding.label}: undetermined, no probability"
    cut = "" if finding.threshold is None else f" (present from {finding.threshold:.3g} on)"
    state = (
        "undetermined, no threshold chosen" if finding.present is None else "present" if finding.present else "absent"
    )
    return f"{finding.label}: probability {finding.probability:.3f}, {state}{cut}"


def _lines(case: ResultCase, findings: Sequence[Finding | Estimate]) -> list[str]:
    return [*(verdict(each) for each in findings), reading_note(case)]


def _strongest(found: HeatMap) -> int | None:
    """Return the place of the frame with the largest sum of a clip's map; None of an image."""
    return int(found.values.sum(axis=(1, 2)).argmax()) if found.values.ndim == 3 else None


def _image(case: ResultCase, source: Dataset, frame: int | None) -> np.ndarray:
    """Return (h, w) or (h, w, 3) pixels of the first source, of a clip a frame, the middle one where none is named."""
    path = case.sources[0]
    if is_slide(source):
        from ...datasets.slides.reading import open_slide

        with open_slide(path) as slide:
            return slide.overview(IMAGE_PX)
    if int(source.get("NumberOfFrames") or 1) > 1:
        from ...datasets.video.clips import open_clip

        with open_clip(path, colour=True) as clip:
            return clip[[len(clip) // 2 if frame is None else frame]][0]
    from ...datasets.images.radiographs import read_radiograph

    return read_radiograph(path, shorter_px=IMAGE_PX)


def _as_rgb(image: np.ndarray) -> np.ndarray:
    pixels = image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def _decoded(png: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def _with_notes(pixels: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """Return (h, w, 3) pixels below a banner and above lines of text, which are part of the image then."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = pixels.shape[:2]
    unit = max(12, width // 42)
    font = ImageFont.load_default(unit)
    letters = max(20, int(width / (0.56 * unit)))
    wrapped = [part for text in lines for part in textwrap.wrap(text, letters)]
    band, line_px = 2 * unit, round(1.35 * unit)
    page = Image.new("RGB", (width, band + height + unit + line_px * len(wrapped)), _PAPER)
    page.paste(Image.fromarray(np.ascontiguousarray(pixels)), (0, band))
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, width, band - 1), fill=_BANNER)
    draw.text((width / 2, band / 2), NOTE, fill=_LETTERS, font=font, anchor="mm")
    for place, text in enumerate(wrapped):
        draw.text((unit // 2, band + height + unit // 2 + place * line_px), text, fill=_INK, font=font, anchor="lt")
    return np.asarray(page)
