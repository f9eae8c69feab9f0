"""Which part of each clip was read: counted on the screen and on cards, kept in the run folder."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...core.errors import UserError
from ..manifest.cells import write_csv
from ..manifest.rois import ROIS, case_boxes, rois_beside
from ..manifest.tables import Manifest
from ..video.region import Region
from .readers import CroppingReader, Reader, with_boxes

REGIONS = "regions.csv"
_IDS = 20  # ids on a card


def for_manifest(reader: Reader, manifest: Manifest) -> Reader:
    """Return a reader that knows the boxes of a manifest's clips, where it crops to boxes; any other as it is.

    Raises:
        UserError, DataError: As of `readers.with_boxes`.
    """
    return with_boxes(reader, _boxed_cases(manifest))


def roi_inputs(reader: Reader, manifest: Manifest) -> dict[str, str | float]:
    """Return what of the boxes decides the pixels of a run: a run goes on with the same boxes alone."""
    if not isinstance(reader, CroppingReader) or reader.roi != "boxes":
        return {}
    cases = _boxed_cases(manifest)
    boxes = case_boxes(cases)
    own = [(case, boxes[path]) for case, path in zip(cases["id"], cases["path"], strict=True)]
    return {"roi": hashlib.sha256(repr(own).encode()).hexdigest()}


def _boxed_cases(manifest: Manifest) -> dict[str, list[str]]:
    ids = manifest.table["id"].tolist()
    files = [str(file) for file in manifest.files()]
    return {"id": ids, "path": files, ROIS: [rois_beside(manifest.path)] * len(ids)}


def refuse_cropped(reader: Reader, what: str) -> None:
    """Raise where a reader crops clips, for what holds their whole frames.

    Raises:
        UserError: It does.
    """
    if isinstance(reader, CroppingReader) and reader.roi != "none":
        raise UserError(f"data.clip.roi {reader.roi}: clips are cropped when their files are read, and {what}.")


def regions_note(regions: Sequence[Region | None]) -> str:
    """Say how many clips are cropped, and to how much of their frames; empty where none was to be."""
    found = [region for region in regions if region is not None]
    if not found:
        return ""
    cropped = [region for region in found if not region.whole]
    said = f"{len(cropped):,} of {len(found):,} clips are cropped to their region of interest"
    if cropped:
        said += f", {np.median([_share(region) for region in cropped]):.0%} of the frame in the median"
    if whole := len(found) - len(cropped):
        said += f"; {whole:,} {'is' if whole == 1 else 'are'} read whole, for none was found ({REGIONS})"
    return said


def write_regions(folder: Path, manifest: Manifest, regions: Sequence[Region | None]) -> dict[str, Any]:
    """Write `regions.csv` into a run folder: id, region and frame in px, why a clip is read whole; return for a card.

    Returns:
        `roi`: how many clips were `cropped`, how many are `whole`, and the first of these; {} where none was to be.
    """
    rows = [(case, region) for case, region in zip(manifest.table["id"], regions, strict=True) if region is not None]
    if not rows:
        return {}
    columns = ["left_px", "top_px", "right_px", "bottom_px", "frame_width_px", "frame_height_px", "whole"]
    table = pd.DataFrame([tuple(region) for _, region in rows], columns=columns)
    table.insert(0, "id", [case for case, _ in rows])
    write_csv(folder / REGIONS, table)
    whole = [case for case, region in rows if region.whole]
    said: dict[str, Any] = {"cropped": len(rows) - len(whole), "whole": len(whole)}
    return {"roi": said | ({"whole_ids": whole[:_IDS]} if whole else {})}


def _share(region: Region) -> float:
    area = (region.right - region.left) * (region.bottom - region.top)
    return area / (region.width_px * region.height_px)
