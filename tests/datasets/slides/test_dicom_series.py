"""A DICOM slide is one series: whichever of its files, or its folder, is named, it is one case."""

import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.contents import contents
from clinvit.datasets.slides.dicom_series import FURTHER, NO_VOLUME
from clinvit.datasets.slides.reading import open_slide
from clinvit.stages.requested import requested_cases
from clinvit.tests.datasets.slides.dicom_slides import write_dicom_slide, write_instance
from pydicom.uid import generate_uid

pytest.importorskip("openslide")


@pytest.fixture
def pixels(tissue_pixels):
    return tissue_pixels(512, 384)


@pytest.mark.parametrize("suffix", [".dcm", ""])
def test_one_case_per_series_in_one_folder(tmp_path, pixels, suffix):
    for name in ("a", "b"):
        write_dicom_slide(tmp_path, name, pixels, suffix=suffix)
    found = contents(tmp_path, "slide")
    assert [entry.path for entry in found.entries] == [f"a_1{suffix}", f"b_1{suffix}"]
    assert found.counts() == {FURTHER: 4}
    assert found.standing[f"a_label{suffix}"] == f"a_1{suffix}"


def test_labels_alone_are_no_slide(tmp_path, pixels):
    write_instance(tmp_path / "label.dcm", pixels, generate_uid(), flavour="LABEL")
    write_instance(tmp_path / "macro.dcm", pixels, generate_uid(), flavour="OVERVIEW")
    found = contents(tmp_path, "slide")
    assert not found.entries and found.counts() == {NO_VOLUME: 2}


def test_files_without_a_series_are_slides_of_their_own(tmp_path, pixels):
    for name in ("a", "b"):
        write_instance(tmp_path / f"{name}.dcm", pixels, "")
    assert len(contents(tmp_path, "slide").entries) == 2


def test_the_folder_and_every_file_open_the_same_slide(tmp_path, pixels):
    files = write_dicom_slide(tmp_path / "case", "a", pixels)
    for path in (tmp_path / "case", *files[:2]):
        with open_slide(path) as slide:
            assert (slide.width_px, slide.height_px, slide.mpp) == (512, 384, 0.5)
            assert slide.downsamples[1] == pytest.approx(4)
            assert np.array_equal(slide.tile(0, 0, 32, 64), pixels[:64, :64])


def test_a_folder_of_two_slides_names_none(tmp_path, pixels):
    for name in ("a", "b"):
        write_dicom_slide(tmp_path, name, pixels)
    with pytest.raises(DataError, match=r"2 DICOM slides.*SeriesInstanceUID"):
        open_slide(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="without a DICOM slide"):
        open_slide(tmp_path / "empty")


def test_files_of_one_slide_named_one_by_one_are_one_request(tmp_path, pixels):
    write_dicom_slide(tmp_path, "a", pixels, PatientID="MRN-7")
    write_dicom_slide(tmp_path, "b", pixels, PatientID="MRN-7")
    for inputs in ([str(tmp_path)], [str(tmp_path / "*.dcm")]):
        cases, _ = requested_cases(inputs, ["tumor"], "slide")
        assert cases["id"].tolist() == ["a_1", "b_1"]
        assert cases["patient"].tolist() == ["MRN-7", "MRN-7"] and cases["dicom"].all()


def test_the_imaged_volume_says_the_scale_where_the_spacing_is_missing(tmp_path, pixels):
    for path in (write_dicom_slide(tmp_path, "a", pixels, SharedFunctionalGroupsSequence=[])[1], tmp_path):
        with open_slide(path) as slide:
            assert slide.mpp == pytest.approx(0.5)
