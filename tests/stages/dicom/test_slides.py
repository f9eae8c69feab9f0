"""Results of DICOM slides: maps in the coordinates of the slide, on the pixels that they cover."""

import numpy as np
import pydicom
import pytest
from clinvit.stages.dicom.case import HeatMap
from clinvit.stages.dicom.write import write_results
from clinvit.tests.datasets.slides.dicom_slides import write_instance
from highdicom.pm.sop import pmread
from highdicom.seg import segread
from pydicom import Dataset
from pydicom.uid import generate_uid

from .conftest import result_case, validated

WIDTH, HEIGHT, SCALE_MM = 2200, 1500, 0.0005  # two px of the slide to one of its map's width, and one over


def placed(**elements) -> dict:
    """Elements that say where a slide lies: turned by 180 degrees, as scanners have it."""
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 20.0, 40.0
    said = {
        "ImageOrientationSlide": [0, -1, 0, -1, 0, 0], "TotalPixelMatrixOriginSequence": [origin],
        "PatientName": "A^B", "PatientID": "1", "InstanceNumber": 1,
    }  # fmt: skip
    return said | elements


@pytest.fixture
def slide(tmp_path):
    """`slide(**elements)` writes the level of a slide."""
    pixels = np.random.default_rng(0).integers(100, 255, (HEIGHT, WIDTH, 3), np.uint8)
    return lambda **elements: write_instance(tmp_path / "slide.dcm", pixels, generate_uid(), mpp=0.5, **elements)


def tile_map() -> tuple[HeatMap, ...]:
    """Tiles of 400 px from (200, 100) on: the first is hot."""
    values = np.zeros((3, 4))
    values[0, 0] = 0.8
    return (HeatMap("Pneumothorax", values, (200, 100, 1800, 1300), WIDTH, HEIGHT),)


@pytest.mark.parametrize("kind", ["sr", "seg", "pm", "sc", "pdf"])
def test_results_of_slides_are_valid(slide, tmp_path, kind):
    case = result_case(slide(**placed()), maps=tile_map(), method="tiles")
    (path,) = write_results(case, [kind], tmp_path / "out")
    assert validated(path) == []


def test_maps_lie_where_their_tiles_do(slide, tmp_path):
    case = result_case(slide(**placed()), maps=tile_map(), method="tiles")
    seg, pm = write_results(case, ["seg", "pm"], tmp_path / "out")
    regions = np.asarray(segread(seg).pixel_array)
    shrink = 3  # of 2200 px to at most 1024
    assert regions.shape == (HEIGHT // shrink, -(-WIDTH // shrink))
    rows, columns = np.nonzero(regions)
    assert columns.min() * shrink == pytest.approx(200, abs=shrink) and rows.min() * shrink == pytest.approx(100, abs=3)
    assert regions[300 // shrink, 400 // shrink] == 1  # the middle of the first tile
    assert columns.max() * shrink < 1000 and rows.max() * shrink < 900
    found = pmread(pm)
    measures = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.PixelSpacing == pytest.approx([shrink * SCALE_MM] * 2)
    place = found.PerFrameFunctionalGroupsSequence[0].PlanePositionSlideSequence[0]
    # The first pixel covers 3 x 3 px; the middle one lies one px along and one down, towards smaller x and y.
    assert place.XOffsetInSlideCoordinateSystem == pytest.approx(20 - SCALE_MM)
    assert place.YOffsetInSlideCoordinateSystem == pytest.approx(40 - SCALE_MM)
    assert found.FrameOfReferenceUID == pydicom.dcmread(tmp_path / "slide.dcm").FrameOfReferenceUID


def test_slide_that_does_not_say_where_it_lies_has_no_maps_but_the_rest(slide, tmp_path):
    case = result_case(slide(), maps=tile_map(), method="tiles")
    found = write_results(case, ["sr", "seg", "pm", "sc", "pdf"], tmp_path / "out")
    assert [path.stem.rsplit("-", 1)[1] for path in found] == ["sr", "sc", "pdf"]
