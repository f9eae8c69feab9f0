"""How many microns one level-0 pixel of a slide measures: by its metadata, else by the manifest, never guessed.

Metadata are not believed blindly: a 72-dpi tag says 353 microns, which no microscope slide has.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import DataError
from .descriptions import described_um

MIN_MPP, MAX_MPP = 0.05, 10.0
# Two statements of one scale, or its two axes, may differ by this share.
TOLERANCE = 0.05

_UM_PER_UNIT = {"inch": 25_400.0, "centimeter": 10_000.0}


@dataclass(frozen=True)
class Scale:
    """What a file says of its scale.

    Attributes:
        x_um: Width of a level-0 pixel in microns; None if the file does not say.
        y_um: Its height.
        magnification: Of the objective, for a hint only: scanners differ in what they call 40x.
    """

    x_um: float | None = None
    y_um: float | None = None
    magnification: float | None = None


class MppOverride(float):
    """Microns per level-0 px that are taken whatever the metadata say: they are known to be wrong."""


def openslide_scale(properties: Mapping[str, str]) -> Scale:
    """Read the scale in OpenSlide's properties: its own, else Aperio's, else the TIFF resolution with its unit.

    Of a generic TIFF file the description comes first (OME-XML, ImageJ and others), as OpenSlide's own is then no more
    than the resolution. A pair that no slide can have gives way to a possible one.
    """
    magnification = _number(properties.get("openslide.objective-power") or properties.get("aperio.AppMag"))
    unit_um = _UM_PER_UNIT.get(properties.get("tiff.ResolutionUnit", ""))
    described = [_number(text) for text in described_um(properties)]
    generic = properties.get("openslide.vendor", "generic-tiff") == "generic-tiff"
    pairs = [
        *([described] if generic else []),
        [_number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy"],
        [_number(properties.get("aperio.MPP"))] * 2,
        [_um_per_px(properties.get(f"tiff.{axis}Resolution"), unit_um) for axis in "XY"],
    ]
    pairs = [pair for pair in pairs if all(pair)]
    possible = (pair for pair in pairs if all(MIN_MPP <= side <= MAX_MPP for side in pair))
    x_um, y_um = next(possible, pairs[0] if pairs else (None, None))
    return Scale(x_um, y_um, magnification)


def microns_per_px(path: str | Path, metadata: Scale, manifest: float | None = None) -> tuple[float, str]:
    """Settle the scale of a slide.

    Args:
        path: The slide, for messages.
        metadata: What its metadata say.
        manifest: What the manifest's column `mpp` says, or `mpp_override` (an `MppOverride`); None if empty.

    Returns:
        Microns per level-0 pixel, and where they come from: `metadata`, `manifest`, or the override, with what it
        overrides.

    Raises:
        DataError: Neither says anything possible (0.05 to 10 microns, both axes alike), or they contradict
            each other by more than 5 %.
    """
    if manifest is not None and not MIN_MPP <= manifest <= MAX_MPP:
        raise DataError(
            f"{path}: the manifest's mpp {manifest:g} is not possible: microns per pixel lie between {MIN_MPP} and "
            f"{MAX_MPP:g}. Mend its column `mpp`."
        )
    if isinstance(manifest, MppOverride):
        said = f"{metadata.x_um:.4g} x {metadata.y_um:.4g}" if metadata.x_um and metadata.y_um else "nothing"
        return float(manifest), f"mpp_override (metadata say {said})"
    why_none = _why_none(metadata)
    if why_none:
        if manifest is None:
            raise DataError(
                f"{path}: no scale: {why_none}. Fill the manifest's column `mpp` for this slide (microns per "
                f"pixel of its largest level){_hint(metadata.magnification)}."
            )
        return float(manifest), "manifest"
    mpp = (metadata.x_um + metadata.y_um) / 2
    if manifest is not None and abs(manifest / mpp - 1) > TOLERANCE:
        raise DataError(
            f"{path}: its metadata say {mpp:.4g} microns per pixel, the manifest's mpp says {manifest:.4g}. "
            "Find out which is right; mend or empty the manifest's cell, or put it into a column `mpp_override` if the "
            "file is wrong."
        )
    return mpp, "metadata"


def _why_none(metadata: Scale) -> str:
    """Return why the metadata give no scale; empty if they do."""
    if not metadata.x_um or not metadata.y_um:
        return "its metadata name no microns per pixel"
    sides = f"{metadata.x_um:.4g} x {metadata.y_um:.4g} microns per pixel"
    if not all(MIN_MPP <= side <= MAX_MPP for side in (metadata.x_um, metadata.y_um)):
        return f"its metadata say {sides}, which no slide scanner makes (a dpi tag for printers, for instance)"
    if abs(metadata.x_um / metadata.y_um - 1) > TOLERANCE:
        return f"its metadata say {sides}: pixels that are not square"
    return ""


def _hint(magnification: float | None) -> str:
    if not magnification:
        return "; the scanner's data sheet or its other slides tell"
    return f"; its objective of {magnification:g}x usually means about {10 / magnification:.2g}"


def _um_per_px(px_per_unit: str | None, unit_um: float | None) -> float | None:
    resolution = _number(px_per_unit)
    return unit_um / resolution if resolution and unit_um else None


def _number(text: str | None) -> float | None:
    """Return a finite number above 0, or None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
