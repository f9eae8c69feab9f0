"""The scale in the description of a TIFF file: OME-XML, ImageJ, Aperio's `MPP =`, PerkinElmer's `PixelSizeMicrons`."""

import html
import re
from collections.abc import Mapping

# Of one unit, in microns; what else OME knows (pixel, reference frame) is no length.
_UM = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4,
    "m": 1e6, "å": 1e-4, "pm": 1e-6, "inch": 25_400.0, "in": 25_400.0,
}  # fmt: skip
_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
_NUMBER = r"([0-9.]+(?:[eE][+-]?\d+)?)"
_BOTH = (re.compile(rf"\bMPP\s*=\s*{_NUMBER}"), re.compile(rf"<PixelSizeMicrons>\s*{_NUMBER}\s*<"))


def described_um(properties: Mapping[str, str]) -> tuple[str, str] | tuple[None, None]:
    """Return width and height of a level-0 pixel in microns, as text; None if the description does not say.

    Args:
        properties: By OpenSlide's names: `tiff.ImageDescription`, for ImageJ `tiff.XResolution` and `tiff.YResolution`.
    """
    text = properties.get("tiff.ImageDescription") or properties.get("openslide.comment") or ""
    if pixels := _PIXELS.search(text):
        return _ome(html.unescape(pixels[0]))
    if text.startswith("ImageJ="):
        return _imagej(text, properties)
    found = next((match[1] for pattern in _BOTH if (match := pattern.search(text))), None)
    return (found, found) if found else (None, None)


def _ome(pixels: str) -> tuple[str, str] | tuple[None, None]:
    sizes = []
    for axis in "XY":
        size = re.search(rf'\bPhysicalSize{axis}="{_NUMBER}"', pixels)
        unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]*)"', pixels)
        um = _UM.get(unit[1].strip().lower() if unit else "um")
        sizes.append(f"{float(size[1]) * um:.9g}" if size and um else None)
    return (sizes[0], sizes[1]) if all(sizes) else (None, None)


def _imagej(text: str, properties: Mapping[str, str]) -> tuple[str, str] | tuple[None, None]:
    """Return what ImageJ says: px per unit in the resolution, whose own unit it leaves out."""
    unit = re.search(r"^unit=(.*)$", text, re.MULTILINE)
    name = unit[1].strip().replace("\\u00B5", "µ").lower() if unit else ""
    try:
        sides = [_UM[name] / float(properties[f"tiff.{axis}Resolution"]) for axis in "XY"]
    except (KeyError, ValueError, ZeroDivisionError):
        return None, None
    return f"{sides[0]:.9g}", f"{sides[1]:.9g}"
