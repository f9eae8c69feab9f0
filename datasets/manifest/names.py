"""Ids and patients of the cases in a folder: of DICOM files hashes, for their names are often those of people."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ...core.errors import DataError
from ...core.secret import key_name, keyed_hash, secret_key
from ..kinds import is_dicom
from .contents import Contents, Entry, summary
from .inventory import is_utf8, note

DAMAGED = "damaged DICOM file"
NO_UTF8 = "file whose name is no UTF-8"
_FACTS = ("view", "sex", "age", "study")


def named_cases(
    root: Path,
    found: Contents,
    parts: Sequence[str],
    *,
    patient_pattern: str | None,
    each_file_own_patient: bool,
) -> pd.DataFrame:
    """Return a row per case: `id, path, patient`, and of DICOM files `view, sex, age, study`.

    Ids and patients of DICOM files are hashes, whoever says who the patient is.

    Args:
        root: The folder.
        found: N cases below it. Damaged DICOM files, whose patient nobody knows, are moved to what is left out.
        parts: N parts of the paths that `patient_pattern` is searched in.
        patient_pattern: Regular expression whose group (or all of it) is the patient; None asks the headers.
        each_file_own_patient: No patient has two files.

    Raises:
        DataError: A wrong pattern, or a file whose patient is not known.
    """
    by_header = patient_pattern is None and not each_file_own_patient
    nameless = [not is_utf8(entry.path) for entry in found.entries]
    if any(nameless):  # no table can hold such a name
        parts = [part for part, bad in zip(parts, nameless, strict=True) if not bad]
        for entry in [entry for entry, bad in zip(found.entries, nameless, strict=True) if bad]:
            found.leave_out(entry.path, NO_UTF8)
            found.entries.remove(entry)
    if by_header:
        parts = [part for part, entry in zip(parts, found.entries, strict=True) if not _nobody_knows(entry)]
        for entry in filter(_nobody_knows, found.entries):
            found.leave_out(entry.path, DAMAGED)
        found.entries = [entry for entry in found.entries if not _nobody_knows(entry)]
    table = pd.DataFrame({"path": [entry.path for entry in found.entries]}, dtype=str)
    table.insert(0, "id", file_ids(table["path"]))
    table["patient"] = table["id"]
    if patient_pattern is not None:
        table["patient"] = patients_by_pattern(root, pd.Series(parts, dtype=str), patient_pattern, found.entries)
    elif by_header:
        _refuse_unknown(root, found.entries)
    if any(entry.is_dicom for entry in found.entries):
        _hash(table, found.entries, patient_pattern is not None, by_header, _key(table))
    return table


def hash_names(root: Path, table: pd.DataFrame, also_patients: bool) -> None:
    """Replace ids that were made of the names of DICOM files by hashes.

    Args:
        root: What the paths are relative to.
        table: With `id, path, patient`; changed in place.
        also_patients: Whether the patients were made of the names too.
    """
    dicom = [is_dicom(root / path) for path in table["path"]]
    if not any(dicom):
        return
    key = _key(table)
    table["id"] = table["id"].mask(dicom, [keyed_hash(key, path) for path in table["path"]])
    if also_patients:
        table["patient"] = table["patient"].mask(dicom, table["id"])


def add_studies(root: Path, table: pd.DataFrame) -> None:
    """Add the column `study`, a hash of what the headers of DICOM files say; nothing where there are none.

    Args:
        root: What the paths are relative to.
        table: With `path`; changed in place.
    """
    from ..images.dicom_header import read_header

    if not any(dicom := [is_dicom(root / path) for path in table["path"]]):
        return
    key, found = secret_key(), []
    for path, header in zip(table["path"], dicom, strict=True):
        try:
            study = read_header(root / path).study if header else ""
        except DataError:  # its pixels will not be read either, which is said then
            study = ""
        found.append(keyed_hash(key, study) if study else "")
    table["study"] = found
    note(table, f"studies of DICOM files are hashed names of their headers, with the key {key_name(key)}.")


def note_left_out(table: pd.DataFrame, found: Contents) -> None:
    """Say and keep with the table what of a folder is no case, by reason."""
    counts = found.counts()
    table.attrs["left_out"] = counts
    if counts:
        note(table, f"{len(found.entries):,} cases taken, {summary(counts)}.")
    laterals = sum(entry.header is not None and entry.header.is_lateral for entry in found.entries)
    if 0 < laterals < len(found.entries):
        note(
            table,
            f"{laterals:,} of {len(found.entries):,} cases are lateral views (column `view`); --option views=PA,AP "
            "leaves them out.",
        )


def capitalised(text: str) -> str:
    """Return a sentence of a text; '' of none."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def file_ids(files: pd.Series) -> pd.Series:
    """Return paths without suffix, or with it where two files differ by nothing else."""
    names = files.str.replace(r"\.[^./]+$", "", regex=True)
    return files if names[~files.duplicated()].duplicated().any() else names


def patients_by_pattern(
    root: Path, below_class: pd.Series, pattern: str, entries: Sequence[Entry] | None = None
) -> pd.Series:
    """Return the patient of each path below its class folder, by a regular expression.

    Args:
        root: The folder, for messages.
        below_class: N parts of paths.
        pattern: Its group (or all of it) is the patient.
        entries: The N cases, whose DICOM files messages do not name; None where there are none.

    Raises:
        DataError: It is none, or finds no patient in a path.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"patient_pattern {pattern!r} is no regular expression: {error}.") from None
    patients = []
    for row, path in enumerate(below_class):
        match = expression.search(path)
        if match is None:
            said = _said(entries[row], path) if entries is not None else repr(path)
            raise DataError(f"{root}: patient_pattern {pattern!r} finds no patient in {said}.")
        patients.append(match[match.re.groups and 1])
    return pd.Series(patients, below_class.index)


def _said(entry: Entry, part: str) -> str:
    """Return a part of a path for a message: of a DICOM file, named after people at times, its id and shape."""
    if not entry.is_dicom:
        return repr(part)
    shape = re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "9", part))
    return f"{shape!r} (x a letter, 9 a digit; the file {keyed_hash(secret_key(), entry.path)})"


def _nobody_knows(entry: Entry) -> bool:
    return entry.is_dicom and entry.header is None


def _refuse_unknown(root: Path, entries: Sequence[Entry]) -> None:
    """Raise where no header says who the patient is."""
    other = [entry.path for entry in entries if not entry.is_dicom]
    if other:
        raise DataError(
            f"{root}: who is the patient of {other[0]} ({len(other):,} such files)? Only DICOM headers say it. Give a "
            "pattern (--option patient_pattern=...), or say --option each_file_own_patient=true if no patient has two "
            "files."
        )
    unnamed = [entry for entry in entries if entry.header is not None and not entry.header.patient]
    if unnamed:
        raise DataError(
            f"{root}: {len(unnamed)} of {len(entries):,} DICOM headers name no patient, first "
            f"{_said(unnamed[0], unnamed[0].path)}. Say --option each_file_own_patient=true if no patient has two "
            "files, or give a pattern (--option patient_pattern=...)."
        )


def _key(table: pd.DataFrame) -> str:
    key = secret_key()
    note(table, f"ids and patients of DICOM files were hashed with the key {key_name(key)}: with it they are the same.")
    return key


def _hash(table: pd.DataFrame, entries: Sequence[Entry], by_pattern: bool, by_header: bool, key: str) -> None:
    """Replace what may name people in the rows of DICOM files, and add what their headers say."""
    rows = []
    for entry, patient in zip(entries, table["patient"], strict=True):
        facts = dict.fromkeys(_FACTS, "") if entry.header is None else entry.header.facts(key)
        name = keyed_hash(key, entry.path)
        if not entry.is_dicom:
            facts["patient"] = patient
        elif by_pattern:
            facts["patient"] = keyed_hash(key, patient)
        elif not by_header:
            facts["patient"] = name
        rows.append({"id": name, **facts})
    facts = pd.DataFrame(rows, index=table.index)
    dicom = [entry.is_dicom for entry in entries]
    table["id"] = table["id"].mask(dicom, facts["id"])
    for column in ("patient", *_FACTS):
        table[column] = facts[column]
