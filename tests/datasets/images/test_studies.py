"""Which image of a study is scored, and the words that say why."""

import itertools

import pytest
from clinvit.datasets.images.dicom_header import DicomHeader, header_of
from clinvit.datasets.images.studies import FURTHER, TWO_PATIENTS, choose_image
from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage, DigitalXRayImageStorageForPresentation


def header(**fields) -> DicomHeader:
    usual = {
        "sop_class": DigitalXRayImageStorageForPresentation, "modality": "DX", "view": "PA", "body_part": "CHEST",
        "size": (100, 80), "frames": 1, "sex": "F", "age": 50.0, "patient": "P1", "study": "1.2", "instance": "1.2.5",
    }  # fmt: skip
    return DicomHeader(**usual | fields)


def named(*fields: dict) -> list[DicomHeader]:
    """The first is to be chosen, and is not by its UID."""
    return [header(**{"instance": f"1.2.{9 - number}"} | each) for number, each in enumerate(fields)]


@pytest.mark.parametrize(
    "first, other, why",
    [
        ({"view": "PA"}, {"view": "LL"}, "PA comes first"),
        ({"view": "PA"}, {"view": "AP"}, "PA comes first"),
        ({"view": "AP"}, {"view": ""}, "AP comes first"),
        ({"view": ""}, {"view": "LATERAL"}, "unknown view comes first"),
        ({"view": "JOHN DOE"}, {"view": "RL"}, "other comes first"),
        ({}, {"derived": True}, "original, not derived"),
        ({}, {"for_processing": True, "size": (9000, 9000)}, "for presentation, not for processing"),
        ({"size": (100, 81)}, {}, "is the largest"),
        ({"taken": "20260102101500"}, {"taken": "202601021014599"}, "was taken last"),
        ({"taken": "20260102"}, {}, "was taken last"),
        ({"instance": "1.2.1"}, {"instance": "1.2.2"}, "first by instance UID, else alike"),
    ],
)
def test_what_decides_is_said_whatever_the_order_of_the_files(first, other, why):
    pair = named(first, other)
    for order in itertools.permutations(pair):
        choice = choose_image(order, "radiograph")
        assert order[choice.index] is pair[0] and choice.why == f"{why}, of 2 images"
        assert choice.left_out == {FURTHER: 1}


def test_one_image_among_other_objects_and_one_alone():
    report = header(sop_class=BasicTextSRStorage, size=None, modality="SR")
    choice = choose_image([report, header(view="LL"), report], "radiograph")
    assert choice.index == 1 and choice.why == "the only image to score among 3 objects; a lateral view"
    assert choose_image([header()], "radiograph").why == "the only image"
    assert sum(choice.left_out.values()) == 2


@pytest.mark.parametrize("unit", ["radiograph", "image", "clip"])
def test_a_study_without_an_image_says_what_it_holds(unit):
    report = header(sop_class=BasicTextSRStorage, size=None, modality="SR")
    choice = choose_image([report] * 2, unit)
    assert choice.index is None and choice.why.startswith("a study without an image to score (2 x DICOM")
    assert choose_image([], unit).why == "a study without an image to score (it is empty)"


def test_two_patients_are_never_scored_and_one_without_a_number_is_no_other():
    choice = choose_image([header(), header(patient="P2")], "radiograph")
    assert choice.index is None and choice.why == TWO_PATIENTS and sum(choice.left_out.values()) == 1
    assert choose_image([header(), header(patient="", view="LL")], "radiograph").index == 0


def test_clips_of_more_frames_come_first():
    pair = named({"frames": 30}, {"frames": 1})
    assert choose_image(pair[::-1], "clip").why == "has most frames, of 2 images"


def test_what_the_header_says_of_the_order_is_read():
    dataset = Dataset()
    dataset.ImageType, dataset.PresentationIntentType = ["DERIVED", "SECONDARY"], "FOR PROCESSING"
    dataset.AcquisitionDate, dataset.AcquisitionTime, dataset.ContentDate = "20260102", "101500.5", "20260103"
    dataset.SOPInstanceUID, dataset.AccessionNumber = "1.2.3", " A7 "
    found = header_of(dataset)
    assert found.derived and found.for_processing and found.taken == "202601021015005"
    assert (found.instance, found.accession) == ("1.2.3", "A7")
    dataset.AcquisitionDateTime = "20260104080000"
    assert header_of(dataset).taken == "20260104080000"
