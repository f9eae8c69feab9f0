"""Heat maps as DICOM images pixel by pixel over their source: a parametric map, and a segmentation of its regions.

Radiographs and clips have no frame of reference: the reference to the source says where a map lies, pixel on pixel. A
parametric map must have one (PS3.3 A.75): it gets one of its own, with the image in the plane z = 0. `highdicom` writes
such objects of one frame; those of several frames are made of these. Maps of slides lie in the slide's coordinates.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence, VOILUTTransformation
from highdicom.pm import DerivedPixelContrastValues, ParametricMap, RealWorldValueMapping
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom import DataElement, Dataset
from pydicom.pixels import pack_bits
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import SecondaryCaptureImageStorage

from ...datasets.images.dicom import decimals
from ...eval.localisation.image_map import ImageMap
from .case import REGION, Estimate, Finding, HeatMap, ResultCase
from .codes import QUANTITIES, concept, line, private_scheme
from .equipment import MANUFACTURER, NOTE, Naming, software
from .filing import laterality
from .slide_maps import Canvas, canvas, is_slide

_LEVELS = 65535
_TEMPORAL, _FRAME_CONTENT = Tag("TemporalPositionIndex"), Tag("FrameContentSequence")


Shown = Finding | Estimate


def shown_findings(case: ResultCase) -> list[Shown]:
    """Return the findings and estimates with a map that are shown (`ResultCase.worth_showing`)."""
    return [each for each in case.worth_showing() if each.label in case.shown()]


def parametric_maps(case: ResultCase, sources: Sequence[Dataset]) -> Iterable[Dataset]:
    """Yield the parametric map of a case: of the findings shown, each divided by its maximum, as whole numbers."""
    findings = shown_findings(case)
    if not findings:
        return
    if is_slide(sources[0]):
        yield from _slide_parametric_maps(case, sources, findings)
        return
    source, frames = _frame_of(sources[0]), case.maps[0].frames
    levels = _levels(case, findings, source)
    naming = Naming.of("pm", case.algorithm, sources[:1], False, case.method)
    stored = np.rint(levels * _LEVELS).astype(np.uint16)
    made = _parametric_map(_placed(source, naming), stored[:1], findings, case, **naming.settings())
    _label_frames(made, findings)
    made.Laterality = laterality(sources[0])
    made = _over_frames(made, stored, frames)
    yield _sided(_referring(made, sources[0]), sources[0])


def _slide_parametric_maps(
    case: ResultCase, sources: Sequence[Dataset], findings: Sequence[Shown]
) -> Iterable[Dataset]:
    """Yield a parametric map for each finding of a slide; none where the slide does not say where it lies."""
    grid = canvas(sources[0])
    naming = Naming.of("pm", case.algorithm, sources[:1], False, case.method)
    for number, finding in enumerate(findings if grid is not None else [], 1):
        stored = np.rint(_slide_levels(case, [finding], grid) * _LEVELS).astype(np.uint16)
        settings = naming.settings(number, finding.label) | grid.settings
        made = _parametric_map(sources[0], stored, [finding], case, **settings)
        made.Laterality = laterality(sources[0])
        yield _sided(made, sources[0])


def _parametric_map(
    source: Dataset, stored: np.ndarray, findings: Sequence[Shown], case: ResultCase, **settings: Any
) -> ParametricMap:
    """Return an object of (1, H, W, K) uint16 maps of K findings."""
    return ParametricMap(
        [source], stored, real_world_value_mappings=[[_mapping(*each, case)] for each in enumerate(findings, 1)],
        contains_recognizable_visual_features=False, derived_pixel_contrast=DerivedPixelContrastValues.NONE,
        voi_lut_transformations=[VOILUTTransformation(window_center=_LEVELS / 2, window_width=_LEVELS)],
        content_label="AI_MAPS", content_description=f"{NOTE}: where the model looked", **settings,
    )  # fmt: skip


def _mapping(number: int, finding: Shown, case: ResultCase) -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label=f"MAP {number}", lut_explanation=line(f"{finding.label}: where the model looked, 1 the most", 64),
        unit=codes.UCUM.NoUnits, value_range=(0, _LEVELS), slope=1 / _LEVELS, intercept=0.0,
        quantity_definition=QUANTITIES[case.method],
    )  # fmt: skip


def _placed(source: Dataset, naming: Naming) -> Dataset:
    """Return a header with a frame of reference of its own."""
    placed = deepcopy(source)
    placed.FrameOfReferenceUID, placed.PositionReferenceIndicator = naming.uid("frame of reference"), ""
    placed.ImagePositionPatient, placed.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    placed.PixelSpacing, placed.SliceThickness = list(_spacing_mm(source)), 1
    return placed


def _spacing_mm(source: Dataset) -> tuple[float, float]:
    """Return the distances of rows and of columns; 1 mm where the source does not say them."""
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        pair = decimals(source.get(name))
        if len(pair) == 2 and min(pair) > 0:
            return pair[0], pair[1]
    return 1.0, 1.0


def _label_frames(made: Dataset, findings: Sequence[Shown]) -> None:
    """Tell the frames of a parametric map apart by the labels of their findings instead of by their positions."""
    made.pop("DimensionOrganizationType", None)
    labelled = made.DimensionIndexSequence[0]
    labelled.DimensionIndexPointer, labelled.FunctionalGroupPointer = Tag("FrameLabel"), _FRAME_CONTENT
    labelled.DimensionDescriptionLabel = "Frame Label"
    frames = zip(made.PerFrameFunctionalGroupsSequence, findings, strict=True)
    for number, (item, finding) in enumerate(frames, 1):
        item.FrameContentSequence[0].FrameLabel = line(finding.label, 64)
        item.FrameContentSequence[0].DimensionIndexValues = [number]


def _sided(made: Dataset, source: Dataset) -> Dataset:
    """Return an object with the orientation of its source, empty where that does not say it."""
    made.PatientOrientation = source.get("PatientOrientation") or None
    return made


def segmentations(case: ResultCase, sources: Sequence[Dataset]) -> Iterable[Dataset]:
    """Yield the segmentation of a case: the region of each finding that is present, none where none is.

    An estimate has no region: a number, a grade or a time is of the whole image.
    """
    findings = [each for each in shown_findings(case) if isinstance(each, Finding) and each.present]
    if not findings:
        return
    naming = Naming.of("seg", case.algorithm, sources[:1], False, case.method)
    if is_slide(sources[0]):
        grid = canvas(sources[0])
        if grid is not None:
            regions = _regions(_slide_levels(case, findings, grid), case, findings)
            yield _sided(_segmentation(sources[0], regions, findings, case, naming, **grid.settings), sources[0])
        return
    source = _frame_of(sources[0])
    regions = _regions(_levels(case, findings, source), case, findings)
    made = _over_frames(_segmentation(source, regions[:1], findings, case, naming), regions, case.maps[0].frames)
    yield _sided(_referring(made, sources[0]), sources[0])


def _regions(levels: np.ndarray, case: ResultCase, findings: Sequence[Finding]) -> np.ndarray:
    """Return (T, H, W, K) uint8: which pixels of (T, H, W, K) maps of findings belong to them."""
    shown = case.shown()
    return (levels >= np.array([shown[each.label].region for each in findings])).astype(np.uint8)


def _how(case: ResultCase) -> str:
    """Return what makes a pixel belong to a finding."""
    return "drawn by the model" if case.method == "dense" else f"at least {REGION:g} of a heat map's maximum"


def _segmentation(
    source: Dataset, regions: np.ndarray, findings: Sequence[Finding], case: ResultCase, naming: Naming, **place: Any
) -> Segmentation:
    """Return an object of (1, H, W, K) regions of K findings."""
    made = Segmentation(
        [source], regions, SegmentationTypeValues.BINARY,
        [_segment(number, each, case, naming) for number, each in enumerate(findings, 1)],
        omit_empty_frames=False, content_label="AI_REGIONS",
        content_description=f"{NOTE}: {_how(case)}", **naming.settings(), **place,
    )  # fmt: skip
    if any(each.code is None for each in findings):
        made.CodingSchemeIdentificationSequence = [private_scheme()]
    return made


def _segment(number: int, finding: Finding, case: ResultCase, naming: Naming) -> SegmentDescription:
    algorithm = AlgorithmIdentificationSequence(
        line(case.algorithm.name, 64), codes.DCM.ArtificialIntelligence, "; ".join(software(case.algorithm)),
        source=MANUFACTURER,
    )  # fmt: skip
    return SegmentDescription(
        number, line(finding.label, 64), codes.SCT.MorphologicallyAbnormalStructure, concept(finding),
        SegmentAlgorithmTypeValues.AUTOMATIC, algorithm, tracking_uid=naming.uid("tracking", finding.label),
        tracking_id=line(finding.label, 64),
    )  # fmt: skip


def _frame_of(source: Dataset) -> Dataset:
    """Return the header of a single frame of a source, of a kind that has one frame and no place in space."""
    one = deepcopy(source)
    one.SOPClassUID = SecondaryCaptureImageStorage
    for name in ("NumberOfFrames", "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient"):
        one.pop(name, None)
    return one


def _referring(made: Dataset, source: Dataset) -> Dataset:
    """Return an object whose references to its source name the kind that the source is."""

    def mend(part: Dataset, element: DataElement) -> None:
        if element.keyword == "ReferencedSOPInstanceUID" and element.value == source.SOPInstanceUID:
            part.ReferencedSOPClassUID = source.SOPClassUID

    made.walk(mend)
    return made


def _levels(case: ResultCase, findings: Sequence[Shown], source: Dataset) -> np.ndarray:
    """Return (T, Rows, Columns, K) maps of findings in 0..1 over the whole image; 0 where the model did not look."""
    found = [_on_image(case.shown()[each.label], source.Columns, source.Rows) for each in findings]
    return np.stack(found, axis=-1)


def _slide_levels(case: ResultCase, findings: Sequence[Shown], grid: Canvas) -> np.ndarray:
    """Return (1, rows, columns, K) maps of findings in 0..1 over a slide."""
    shown = case.shown()
    wide, high = grid.covered_px
    found = [replace(shown[each.label], width_px=wide, height_px=high) for each in findings]
    return np.stack([_on_image(each, grid.columns, grid.rows) for each in found], axis=-1)


def _on_image(found: HeatMap, width: int, height: int) -> np.ndarray:
    """Return (T, height, width) float32 in 0..1, divided by the maximum of all frames."""
    grids = found.values if found.values.ndim == 3 else found.values[None]
    highest = float(grids.max())
    scaled = grids / highest if highest > 0 else grids
    maps = (ImageMap(grid, found.extent_px, found.width_px, found.height_px) for grid in scaled)
    return np.stack([np.nan_to_num(each.sampled(width, height)).clip(0, 1).astype(np.float32) for each in maps])


def _over_frames(made: Dataset, values: np.ndarray, frames: Sequence[int]) -> Dataset:
    """Return an object of one frame as one of all frames of a clip.

    Args:
        made: Of the first of the frames; K frames, one per finding.
        values: (T, H, W, K) uint8 or uint16.
        frames: T indices of the source's frames; empty of a source of one frame, of which the object is returned.
    """
    if not frames:
        return made
    one = list(made.PerFrameFunctionalGroupsSequence)
    items = []
    for place, frame in enumerate(frames, 1):
        for item in deepcopy(one):
            item.FrameContentSequence[0].TemporalPositionIndex = place
            indices = item.FrameContentSequence[0].get("DimensionIndexValues", [])
            indices = [int(indices)] if isinstance(indices, int) else [int(index) for index in indices]
            item.FrameContentSequence[0].DimensionIndexValues = [*indices, place]
            for derived in item.get("DerivationImageSequence", []):
                for image in derived.SourceImageSequence:
                    image.ReferencedFrameNumber = frame + 1
            items.append(item)
    made.PerFrameFunctionalGroupsSequence = items
    made.NumberOfFrames = len(items)
    made.DimensionIndexSequence = [*made.DimensionIndexSequence, _temporal(made)]
    ordered = np.moveaxis(values, 3, 1).reshape(-1)
    packed = pack_bits(ordered) if made.BitsAllocated == 1 else ordered.tobytes()
    made.PixelData = packed + b"\0" * (len(packed) % 2)
    return made


def _temporal(made: Dataset) -> Dataset:
    """Return the dimension of time of a multi-frame object."""
    item = Dataset()
    item.DimensionIndexPointer, item.FunctionalGroupPointer = _TEMPORAL, _FRAME_CONTENT
    item.DimensionOrganizationUID = made.DimensionOrganizationSequence[0].DimensionOrganizationUID
    item.DimensionDescriptionLabel = "Frame of the clip"
    return item
