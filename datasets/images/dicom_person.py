"""What a DICOM header calls a person by, to be looked for in the pixels, and the pixels as a person sees them."""

from collections.abc import MutableSequence
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ..kinds import is_dicom
from .dicom import read_elements
from .radiographs import read_radiograph

# Keywords of the standard, and what they are called where they are found. The words themselves are never written.
FIELDS = {
    "PatientName": "patient name",
    "OtherPatientNames": "patient name",
    "PatientID": "patient number",
    "OtherPatientIDs": "patient number",
    "PatientBirthDate": "birth date",
    "AccessionNumber": "accession number",
}


def pixels_and_person(path: Path) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Return an image in full size, (H, W) uint8, and what its header calls the person: pairs of field and text.

    Raises:
        DataError: As `read_radiograph`.
    """
    pixels = (read_radiograph(path) * 255).round().astype(np.uint8)
    return pixels, _person(path)


def _person(path: Path) -> list[tuple[str, str]]:
    if not is_dicom(path):
        return []
    try:
        with path.open("rb") as file:
            header = read_elements(path, file, tuple(FIELDS), stop_before_pixels=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}).") from None
    found = []
    for keyword, field in FIELDS.items():
        value = header.get(keyword)
        several = value if isinstance(value, MutableSequence) else [value]
        found += [(field, str(each).strip()) for each in several if each is not None and str(each).strip()]
    return found
