"""UIDs of results: a repeated call gives the same, whatever else changes gives others, and all are valid."""

from dataclasses import replace

import pydicom
from clinvit.stages.dicom.case import KINDS, checked_kinds
from clinvit.stages.dicom.uids import result_uid
from clinvit.stages.dicom.write import write_results
from pydicom.uid import UID

from .conftest import MODEL, heat_maps, result_case


def test_rule_is_fixed():
    """PACS hold results by these: the rule must never change."""
    uid = result_uid("instance", "sr", "b" * 64, ["1.2.3", "1.2.4"], "word")
    assert uid == "2.25.11447211702515933840028785012104709582"


def test_whatever_a_result_depends_on_gives_another_uid():
    asked = [
        ("instance", "sr", "b", ["1.2"]), ("series", "sr", "b", ["1.2"]), ("instance", "seg", "b", ["1.2"]),
        ("instance", "sr", "c", ["1.2"]), ("instance", "sr", "b", ["1.3"]), ("instance", "sr", "b", ["1.2", "1.3"]),
        ("instance", "sr", "b", ["1.3", "1.2"]), ("instance", "sr", "b", ["1.2"], "x"),
        ("instance", "sr failed", "b", ["1.2"]),
    ]  # fmt: skip
    found = [result_uid(*each) for each in asked]
    assert len(set(found)) == len(asked)
    assert all(UID(uid).is_valid and uid.startswith("2.25.") and len(uid) <= 64 for uid in found)


def named(case, folder) -> list[str]:
    found = [pydicom.dcmread(path) for path in write_results(case, KINDS, folder)]
    return [uid for each in found for uid in (each.SOPInstanceUID, each.SeriesInstanceUID)]


def test_repeated_calls_name_the_same_and_another_model_others(saved, tmp_path):
    case = result_case(saved(), maps=heat_maps(), method="gradient")
    first, again = named(case, tmp_path / "a"), named(case, tmp_path / "b")
    other = named(replace(case, algorithm=replace(MODEL, fingerprint="c" * 64)), tmp_path / "c")
    assert first == again and len(first) == 10 and len(set(first)) == 10
    assert not set(first) & set(other)


def test_kinds_come_once_and_in_their_order():
    assert checked_kinds(["pdf", "sr", "pdf"]) == ["sr", "pdf"]
