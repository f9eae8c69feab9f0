"""Findings as coded concepts: by a public terminology where the task has a code, else privately by the label."""

import hashlib
import re

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from .case import Estimate, Finding

PRIVATE = "99CLINVIT"
_CODE_CHARACTERS, _MEANING_CHARACTERS = 16, 64  # of SH and LO

PROBABILITY, PRESENCE = codes.DCM.Probability, codes.DCM.PresenceOfProperty
SUMMARY, FAILED, SUCCEEDED = codes.DCM.SummaryOfAnalyses, codes.DCM.Failed, codes.DCM.Succeeded
# Context group 240, present or absent.
PRESENT, ABSENT, UNDETERMINED = (
    CodedConcept("52101004", "SCT", "Present"),
    CodedConcept("272519000", "SCT", "Absent"),
    CodedConcept("373068000", "SCT", "Undetermined"),
)
# Context group 7180: what a parametric map is of.
QUANTITIES = {
    "gradient": codes.DCM.GradientWeightedClassActivation,
    "grad_cam": codes.DCM.GradientWeightedClassActivation,
    "attention": codes.DCM.ClassActivation,
    "dense": codes.DCM.ClassActivation,
    "tiles": codes.DCM.ClassActivation,
}


def concept(finding: Finding | Estimate) -> CodedConcept:
    """Return the concept of a finding or an estimate: the table's, or the label in the private scheme `PRIVATE`."""
    if finding.code is not None:
        return CodedConcept(finding.code.value, finding.code.scheme, finding.code.meaning)
    return private(finding.label)


def private(words: str) -> CodedConcept:
    """Return words as a concept of the private scheme; equal words have equal codes, others have others."""
    plain = re.sub(r"[^A-Z0-9]+", "_", words.upper()).strip("_")
    if len(plain) > _CODE_CHARACTERS or plain != words.upper().replace(" ", "_"):
        plain = f"{plain[:7]}_{hashlib.sha256(words.encode()).hexdigest()[:8].upper()}"
    return CodedConcept(plain, PRIVATE, line(words, _MEANING_CHARACTERS))


def presence(finding: Finding) -> CodedConcept:
    """Return the decision; without one it is undetermined, never absent."""
    if finding.present is None or finding.probability is None:
        return UNDETERMINED
    return PRESENT if finding.present else ABSENT


def private_scheme() -> CodingSchemeIdentificationItem:
    """Return what is said of the private scheme in every object that uses it."""
    return CodingSchemeIdentificationItem(
        designator=PRIVATE, name="Labels of ClinViT models", responsible_organization="ClinViT"
    )


def line(words: str, characters: int) -> str:
    """Return words on one line without a backslash, which parts values in DICOM, cut to so many characters."""
    words = " ".join(words.replace("\\", "/").split())
    return words if len(words) <= characters else words[: characters - 1] + "…"
