"""Codes of findings: of labels that the tasks have, well-formed, and those that DICOM lists as DICOM lists them."""

import pytest
from clinvit.tasks import all_tasks
from clinvit.tasks.erdes.labels import LABELS
from clinvit.tasks.thorax import labels
from pydicom.sr._concepts_dict import concepts

KNOWN = {value: meaning for names in concepts["SCT"].values() for value, (meaning, _) in names.items()}
CODES = [(task.name, label, code) for task in all_tasks() for label, code in task.codes().items()]


def checked(value: str) -> int:
    """What Verhoeff's check of an SCTID leaves over; 0 of one without a typing error."""
    turns = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    for _ in range(6):
        turns.append([turns[1][digit] for digit in turns[-1]])
    left = 0
    for place, digit in enumerate(map(int, reversed(value))):
        left = _times(left, turns[place % 8][digit])
    return left


def _times(one: int, two: int) -> int:
    """Multiplication in the group of the pentagon."""
    if one < 5:
        return (one + two) % 5 if two < 5 else 5 + (one + two - 5) % 5
    return 5 + (one - two) % 5 if two < 5 else (one - two) % 5


@pytest.mark.parametrize(("task", "label", "code"), CODES, ids=[f"{name}-{label}" for name, label, _ in CODES])
def test_code_is_well_formed(task, label, code):
    assert code.scheme == "SCT" and len(code.meaning) <= 64
    assert checked(code.value) == 0, "no SNOMED CT identifier: its check digit is wrong"
    if code.value in KNOWN:
        assert KNOWN[code.value].lower() == code.meaning.lower()
    known = {*LABELS} if task == "erdes" else {*labels.CHESTXRAY14, *labels.CHEXPERT14, *labels.VINDR, *labels.COVIDX}
    assert label in known


def test_check_digits_find_typing_errors():
    assert checked("36118008") == 0 and checked("36118018") != 0 and checked("36181008") != 0
