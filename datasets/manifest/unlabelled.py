"""A folder of images or clips without labels, for pre-training: any tree of files."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ...core.errors import DataError
from .contents import Contents, contents, summary
from .names import DAMAGED, capitalised, named_cases, note_left_out


def read_unlabelled(
    root: str | Path,
    *,
    unit: str = "image",
    patient_pattern: str | None = None,
    each_file_own_patient: bool = False,
    modalities: str | Sequence[str] | None = None,
    views: str | Sequence[str] | None = None,
    body_parts: str | Sequence[str] | None = None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read every case below a folder; all of them are for training, none has a label.

    Args:
        root: The folder.
        unit: What a case is, as of `contents.contents`.
        patient_pattern: Regular expression searched in the path; its group (or all of it) is the patient.
        each_file_own_patient: No patient has two files.
        modalities: Of DICOM files, those to take, such as `DX,CR`.
        views: Of DICOM files, those to take, such as `PA,AP`.
        body_parts: Of DICOM files, those to take, such as `CHEST`.

    Returns:
        The table `id, path, patient, split` (for DICOM also `view, sex, age, study`) and no labels. Names and
        numbers of DICOM headers do not stand in it. Names of files do in `path`; ids and patients of DICOM files are
        hashes, for such files are often named after people.

    Raises:
        DataError: No file, or a file whose patient is not known.
    """
    from ..images.dicom_header import Wanted

    root = Path(root)
    found = contents(root, unit, Wanted.of(modalities, views, body_parts))
    table = named_cases(
        root, found, [entry.path for entry in found.entries], patient_pattern=patient_pattern,
        each_file_own_patient=each_file_own_patient,
    )  # fmt: skip
    if not len(table):
        words = f"{root}: no file to read below this folder ({unit}s). {capitalised(summary(found.counts()))}".strip()
        raise DataError(f"{words} {_why_damaged(root, found)}".strip())
    table.insert(3, "split", "train")
    note_left_out(table, found)
    return table, ()


def _why_damaged(root: Path, found: Contents) -> str:
    """Return what is wrong with the first damaged file, so that an error names one; '' where none is."""
    from ..images.dicom_header import read_header

    first = next(iter(found.left_out.get(DAMAGED, ())), None)
    if first is None:
        return ""
    try:
        read_header(root / first)
    except DataError as error:
        return f"The first: {error}"
    return f"The first: {root / first}: its header ends before it describes an image. Fetch it again."
