"""What a user named on the command line, as cases: files, folders, globs, or a manifest."""

import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import DataError, printable
from ..core.secret import keyed_hash
from ..datasets.manifest.tables import read_manifest
from ..finetune.pipeline import manifest_cases


def requested_cases(
    inputs: Sequence[str], labels: Sequence[str], suffixes: Sequence[str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """What a user named on the command line, as cases.

    The table `id, path, patient, split, shown` (what stands for the path in a reason: of a manifest the id), and (N, L)
    truth, NaN where unknown.

    Args:
        inputs: Files, folders (searched for `suffixes`), globs, or one manifest CSV.
        labels: Of the model.
        suffixes: Of the files that the model reads.
    """
    if len(inputs) == 1 and inputs[0].lower().endswith(".csv"):
        return manifest_cases(read_manifest(inputs[0]), labels)
    files = expand(inputs, suffixes)
    stems = [printable(file.stem) for file in files]
    ids = stems if len(set(stems)) == len(stems) else [printable(file.as_posix()) for file in files]
    cases = pd.DataFrame({"id": ids, "path": [str(file) for file in files], "patient": ids, "split": "new"})
    cases["shown"] = cases["path"]
    return cases, np.full((len(cases), len(labels)), np.nan)


def expand(inputs: Sequence[str], suffixes: Sequence[str]) -> list[Path]:
    """Files, folders (searched below, by suffix) and globs to a list of files; a file that is missing stays in it."""
    files: list[Path] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            found = sorted(f for f in path.rglob("*") if f.suffix.lower() in suffixes and f.is_file())
            if not found:
                raise DataError(f"{path}: no file in this folder that the model reads ({', '.join(sorted(suffixes))}).")
            files += found
        elif not path.exists() and any(sign in text for sign in "*?["):
            found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor) if path.anchor else path)))
            if not found:
                raise DataError(f"{text}: no file matches.")
            files += [file for file in found if file.is_file()]
        else:
            files.append(path)
    return list(dict.fromkeys(files))


def is_dicom(cases: pd.DataFrame) -> np.ndarray:
    """(N,) whether each file is named as DICOM files are."""
    from ..datasets.images.dicom import DICOM_SUFFIXES

    return cases["path"].str.lower().str.endswith(DICOM_SUFFIXES).to_numpy(dtype=bool)


def pseudonymised(cases: pd.DataFrame, salt: str = "") -> tuple[pd.DataFrame, str]:
    """The cases with hashes for the ids and patients of DICOM files, whose names are often names or numbers of people.

    Args:
        cases: As from `requested_cases` of files, not of a manifest, which has been made without names already; `shown`
            becomes the hash too.
        salt: Of the hashes, kept secret; drawn anew if empty.

    Returns:
        The cases and the salt. A file without a patient number is its own patient.
    """
    from ..datasets.images.dicom import dicom_facts
    from ..datasets.loading.isolation import isolated

    salt, cases = salt or secrets.token_hex(32), cases.copy()
    rows = np.flatnonzero(is_dicom(cases))
    paths = cases["path"].iloc[rows].tolist()
    for row, path, facts in zip(rows, paths, isolated(partial(dicom_facts, salt=salt), paths), strict=True):
        name = keyed_hash(salt, str(Path(path).resolve()))
        # Of an unreadable file the prediction will fail and say why.
        patient = "" if isinstance(facts, DataError) else facts["patient"]
        cases.loc[row, ["id", "patient", "shown"]] = name, patient or name, name
    return cases, salt
