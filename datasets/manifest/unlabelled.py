"""A folder of images or clips without labels, for pre-training: any tree of files."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from ...core.errors import DataError
from ...core.secret import key_name, keyed_hash, secret_key
from ..images.dicom import DICOM_SUFFIXES, dicom_facts
from ..images.radiographs import RADIOGRAPH_SUFFIXES
from ..loading.isolation import isolated
from .inventory import files_below, note
from .own import file_ids, patients_by_pattern


def read_unlabelled(
    root: str | Path,
    *,
    suffixes: Sequence[str] = RADIOGRAPH_SUFFIXES,
    patient_pattern: str | None = None,
    each_file_own_patient: bool = False,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read every file of a kind below a folder; all of them are for training, none has a label.

    Args:
        root: The folder.
        suffixes: Which files count (lower case, with the dot).
        patient_pattern: Regular expression searched in the path; its group (or all of it) is the patient.
        each_file_own_patient: No patient has two files.

    Returns:
        The table `id, path, patient, split` (for DICOM also `view, sex, age, study`) and no labels. Names and
        numbers of DICOM headers do not stand in it. Names of files do in `path`; where the headers say who the
        patient is, ids are hashes, for such files are often named after people.

    Raises:
        DataError: No file, an unreadable DICOM header, or a file whose patient is not known.
    """
    root = Path(root)
    suffixes = (suffixes,) if isinstance(suffixes, str) else tuple(suffixes)
    files = pd.Series(files_below(root, suffixes), dtype=str)
    if not len(files):
        raise DataError(f"{root}: no file to read below this folder ({', '.join(suffixes)}).")
    table = pd.DataFrame({"id": file_ids(files), "path": files, "patient": "", "split": "train"})
    if patient_pattern is not None:
        table["patient"] = patients_by_pattern(root, files, patient_pattern)
    elif each_file_own_patient:
        table["patient"] = table["id"]
    else:
        _patients_of_headers(root, table)
    return table, ()


def _patients_of_headers(root: Path, table: pd.DataFrame) -> None:
    other = ~table["path"].str.lower().str.endswith(DICOM_SUFFIXES)
    if other.any():
        raise DataError(
            f"{root}: who is the patient of {table['path'][other].iloc[0]}? Only DICOM headers say it. Give a pattern "
            "(--option patient_pattern=...), or say --option each_file_own_patient=true if no patient has two files."
        )
    key = secret_key()
    note(table, f"patient numbers were hashed with the key {key_name(key)}: with it they are the same again.")
    reads = isolated(partial(dicom_facts, salt=key), [root / path for path in table["path"]])
    found = list(tqdm(reads, total=len(table), desc="reading headers", unit="file", disable=None))
    if failed := next((each for each in found if isinstance(each, DataError)), None):
        raise failed
    facts = pd.DataFrame(found, index=table.index)
    unnamed = facts["patient"] == ""
    if unnamed.any():
        raise DataError(
            f"{root}: {int(unnamed.sum())} DICOM headers name no patient, first {table['path'][unnamed].iloc[0]}. Say "
            "--option each_file_own_patient=true if no patient has two files."
        )
    for column in facts.columns:
        table[column] = facts[column]
    table["id"] = [keyed_hash(key, path) for path in table["path"]]
