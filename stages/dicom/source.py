"""What results take from the files that they are about: patient, study, and the image that they refer to.

The values are copied into results by purpose, as a PACS files by them, and go nowhere else: no message carries one.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.valuerep import DA, TM

from ...core.errors import DataError
from ...datasets.images.dicom import decoding, quiet, read_elements
from ...datasets.kinds import DICOM, file_kind

PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge")
STUDY = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "StudyDescription",
    "ReferringPhysicianName",
)  # fmt: skip
# Of type 2: must be there, may be empty.
_EXPECTED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_IMAGE = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "Modality", "Rows",
    "Columns", "NumberOfFrames", "PixelSpacing", "ImagerPixelSpacing", "BodyPartExamined", "Laterality",
    "ImageLaterality", "PatientOrientation", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)  # fmt: skip
_GEOMETRY = (
    "FrameOfReferenceUID", "PositionReferenceIndicator", "ImagePositionPatient", "ImageOrientationPatient",
    "SliceThickness",
)  # fmt: skip
_SPECIMEN_NEEDED = ("ContainerIdentifier", "SpecimenDescriptionSequence")
_SPECIMEN_EMPTY = ("IssuerOfTheContainerIdentifierSequence", "ContainerTypeCodeSequence")  # of type 2
_SLIDE = (
    "ImageOrientationSlide", "TotalPixelMatrixColumns", "TotalPixelMatrixRows", "TotalPixelMatrixOriginSequence",
    "TotalPixelMatrixFocalPlanes", "NumberOfOpticalPaths", "SharedFunctionalGroupsSequence",
    "DimensionOrganizationType", "ImagedVolumeWidth", "ImagedVolumeHeight", "ImagedVolumeDepth",
    *_SPECIMEN_NEEDED, *_SPECIMEN_EMPTY,
)  # fmt: skip
_AGE = re.compile(r"\d{3}[DWMY]")
_UID = re.compile(r"[0-9.]{1,64}")  # leading zeros, which the standard forbids, are out there and name the file too


def read_sources(paths: Sequence[Path]) -> list[Dataset]:
    """Return what the results of a case need of its files, complete and readable for `highdicom`, in UTF-8.

    Values that the standard does not allow (a date that is none, an unknown sex) are left empty.

    Args:
        paths: DICOM files that are one case.

    Raises:
        DataError: A file is no DICOM, lacks what would file its results, or they are of several studies or patients.
    """
    assert paths, "a case without files"
    sources = [_read(Path(path)) for path in paths]
    if len({source.StudyInstanceUID for source in sources}) > 1:
        raise DataError(f"{paths[0]}: a case of files of several studies; a result belongs to one.")
    if len({patient_of(source) for source in sources}) > 1:
        raise DataError(
            f"{paths[0]}: a case of files of several patients under one study UID: a result would be filed with the "
            "wrong one. Have the study corrected in the PACS."
        )
    return sources


def patient_of(source: Dataset) -> tuple[str, str]:
    """Return what tells patients apart: number and its issuer, or the name where there is no number."""
    return str(source.PatientID) or str(source.PatientName), str(source.get("IssuerOfPatientID", ""))


def _read(path: Path) -> Dataset:
    if file_kind(path) != DICOM:
        raise DataError(f"{path}: no DICOM file, so no DICOM result: there is no study to file it with.")
    tags = (*PATIENT, *STUDY, *_IMAGE, *_GEOMETRY, *_SLIDE)
    with path.open("rb") as file:
        header = read_elements(path, file, tags, stop_before_pixels=True)
    with decoding(path), quiet():
        source = Dataset()
        for name in tags:
            if name in header and (value := _clean(name, header)) is not None:
                setattr(source, name, value)
        for name in _EXPECTED:
            if name not in source:
                setattr(source, name, "")
        source.SpecificCharacterSet = "ISO_IR 192"
    _refuse_without_uids(path, source)
    _settle_specimen(source)
    if not all(name in source for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")):
        for name in _GEOMETRY if "TotalPixelMatrixRows" not in source else ():
            source.pop(name, None)
    return source


def _settle_specimen(source: Dataset) -> None:
    """Leave out what is said of the specimen unless it is said whole: results copy it, and a part is not valid."""
    if all(source.get(name) for name in _SPECIMEN_NEEDED):
        for name in _SPECIMEN_EMPTY:
            if name not in source:
                setattr(source, name, [])
        return
    for name in (*_SPECIMEN_NEEDED, *_SPECIMEN_EMPTY):
        source.pop(name, None)


def _refuse_without_uids(path: Path, source: Dataset) -> None:
    for name in _UIDS:
        uid = source.get(name)
        if not uid or not _UID.fullmatch(uid):
            state = "has no" if not uid else "has an invalid"
            raise DataError(
                f"{path}: {state} {name}, so no DICOM result: nothing could refer to it. Export the file from the "
                "PACS again."
            )


def _clean(name: str, header: Dataset) -> Any:
    """Return a value as the standard allows it; None where it is to be left out."""
    value = header[name].value
    check = _CHECKS.get(name) or _CHECKS.get(header[name].VR)
    if check is None:
        return value
    text = "" if value is None else str(value if isinstance(value, str) or not _several(value) else value[0]).strip()
    if header[name].VR == "DA":  # 1997.04.24, as before 1993
        text = re.sub(r"[.-]", "", text)
    return text if check(text) else None


def _several(value: Any) -> bool:
    return hasattr(value, "__getitem__") and not hasattr(value, "components")


def _is(kind: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            kind(text)
        except (ValueError, TypeError):
            return False
        return True

    return check


_CHECKS: dict[str, Callable[[str], Any]] = {
    "PatientSex": lambda text: text in ("M", "F", "O"),
    "DA": _is(DA),
    "TM": _is(TM),
    "AS": _AGE.fullmatch,
    "PN": lambda _: True,
    "LO": lambda _: True,
    "SH": lambda _: True,
    "UI": lambda _: True,
}
