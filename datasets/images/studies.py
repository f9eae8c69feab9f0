"""Which image of a study is scored, by one stated rule, and why: the words of a table's column `chosen`.

PACS hand out studies with several series and views, copies and raw data. One image stands for the study, in this order:
a frontal view (PA before AP) before an unknown one and that before a lateral one; an original before a derived image;
for presentation before for processing; the larger; of clips the one of more frames; the one that was taken last, as a
repeated exposure replaces the first; and, so that the answer is always the same, the first by its instance UID.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .dicom_header import RESULT, DicomHeader, Wanted, not_wanted

FURTHER = "DICOM image of a study of which another image is scored"
OF_TWO = "DICOM of a study of two patients"
TWO_PATIENTS = "two patients under one study UID: nothing of it is scored. Correct the study in the PACS"
_VIEW_ORDER = {"PA": 0, "AP": 1}


@dataclass(frozen=True)
class Choice:
    """What is scored of a study.

    Attributes:
        index: Of the object among those of the study; None if none is.
        why: Why this one, or why none.
        left_out: By reason, how many objects are not scored.
    """

    index: int | None
    why: str
    left_out: Counter[str] = field(default_factory=Counter)


def choose_image(headers: Sequence[DicomHeader], unit: str) -> Choice:
    """Choose the image of a study.

    Args:
        headers: Of all its objects.
        unit: What a case is: `image`, `radiograph` (of the chest) or `clip`.
    """
    fit, why, left_out = scorable(headers, unit)
    if not fit:
        return Choice(None, why, left_out)
    ranked = sorted(fit, key=lambda index: [key for key, _ in _order(headers[index])])
    left_out[FURTHER] += len(fit) - 1
    return Choice(ranked[0], _why([headers[index] for index in ranked], len(headers)), +left_out)


def scorable(headers: Sequence[DicomHeader], unit: str) -> tuple[list[int], str, Counter[str]]:
    """Return which objects of a study could be scored, why none could, and by reason how many are not.

    Args:
        headers: Of all its objects.
        unit: As of `choose_image`.
    """
    reasons = [_unfit(header, unit) for header in headers]
    left_out = Counter(reason for reason in reasons if reason)
    if len({header.patient for header in headers if header.patient}) > 1:
        left_out[OF_TWO] += len(headers) - sum(left_out.values()) - 1
        return [], TWO_PATIENTS, +left_out
    fit = [index for index, reason in enumerate(reasons) if not reason]
    listed = ", ".join(f"{number} x {reason}" for reason, number in left_out.items())
    return fit, "" if fit else f"a study without an image to score ({listed or 'it is empty'})", left_out


def _unfit(header: DicomHeader, unit: str) -> str:
    if unit != "clip":
        return not_wanted(header, Wanted(), chest=unit == "radiograph")
    if header.is_result:
        return RESULT
    return "" if header.size is not None and not header.is_slide else f"DICOM that is no clip ({header.words()})"


def _order(header: DicomHeader) -> list[tuple[object, str]]:
    """Return the keys by which images are ranked, least first, each with what it means that it decided."""
    view = 3 if header.is_lateral else _VIEW_ORDER.get(header.view, 2)
    height, width = header.size or (0, 0)
    taken = [-int(digit) for digit in header.taken] + [1]
    return [
        (view, f"{header.sayable_view or 'unknown view'} comes first"),
        (header.derived, "original, not derived"),
        (header.for_processing, "for presentation, not for processing"),
        (-header.frames, "has most frames"),
        (-height * width, "is the largest"),
        (taken, "was taken last"),
        (header.instance, "first by instance UID, else alike"),
    ]


def _why(ranked: Sequence[DicomHeader], objects: int) -> str:
    lateral = "; a lateral view" if ranked[0].is_lateral else ""
    if len(ranked) == 1:
        return ("the only image" if objects == 1 else f"the only image to score among {objects} objects") + lateral
    first, second = _order(ranked[0]), _order(ranked[1])
    why = next((words for (key, words), (other, _) in zip(first, second) if key != other), "the first of equal ones")
    return f"{why}, of {len(ranked)} images{lateral}"
