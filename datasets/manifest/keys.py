"""Which columns of a person's table name the file and the patient: as said, by their names, or by their cells."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError
from .columns import alias, read_label
from .lookup import share_found
from .tables import nearest

NO_COLUMN = ""  # for the patient, where each file is its own
_LEAST = 0.1  # values per row, from which on a column may be a guess for the patients
_FOUND = 0.5  # share of a column's cells that are names of files, from which it is taken


def as_names(names: str | Iterable[str] | None, columns: Sequence[str]) -> tuple[str, ...] | None:
    """Return named columns: of `A,B` (unless one column is called so), of a list, or of one name."""
    if names is None:
        return None
    if isinstance(names, str):
        return (names,) if names in columns else tuple(name.strip() for name in names.split(",") if name.strip())
    return tuple(map(str, names))


def key_columns(
    path: Path,
    raw: pd.DataFrame,
    roots: Sequence[Path],
    path_column: str,
    patient_column: str,
    id_column: str | None,
    class_column: str | None,
    each_file_own_patient: bool,
) -> dict[str, str]:
    """Return the columns of `path` and `patient` (NO_COLUMN where each file is its own patient).

    Raises:
        DataError: All columns that are missing, with the command that names them.
    """
    columns = list(raw.columns)
    missing = []
    if path_column not in columns:
        found = (alias("path", columns) or _by_cells(raw, roots)) if path_column == "path" else None
        path_column, missing = (found, missing) if found else (path_column, ["path_column"])
    if each_file_own_patient:
        patient_column = NO_COLUMN
    elif patient_column not in columns:
        found = alias("patient", columns) if patient_column == "patient" else None
        patient_column, missing = (found, missing) if found else (patient_column, [*missing, "patient_column"])
    wanted = {
        "path_column": path_column, "patient_column": patient_column, "id_column": id_column,
        "class_column": class_column,
    }  # fmt: skip
    missing += [key for key in ("id_column", "class_column") if wanted[key] and wanted[key] not in columns]
    if missing:
        _refuse(path, raw, {key: str(wanted[key]) for key in missing})
    return {"path": path_column, "patient": patient_column}


def _by_cells(raw: pd.DataFrame, roots: Sequence[Path]) -> str | None:
    """Return the column most of whose cells name files below one of the folders."""
    texts = [column for column in raw.columns if read_label(raw[column]).odd.any()]
    shares = [max(share_found(raw[column], root) for root in roots) for column in texts]
    best = int(np.argmax(shares)) if shares else 0
    return texts[best] if shares and shares[best] >= _FOUND else None


_WHAT = {
    "path_column": "the files", "patient_column": "the patients",
    "id_column": "unique names", "class_column": "the classes",
}  # fmt: skip


def _refuse(path: Path, raw: pd.DataFrame, missing: dict[str, str]) -> None:
    columns = list(raw.columns)
    words = " and ".join(f"{name!r} ({_WHAT[key]}{nearest(name, columns)})" for key, name in missing.items())
    likely = _like_patients(raw) if "patient_column" in missing else None
    options = " ".join(f"--option {key}={(key == 'patient_column' and likely) or 'NAME'}" for key in missing)
    guess = f" ({likely!r} is a guess: {raw[likely].nunique()} values in {len(raw)} rows)" if likely else ""
    own = "Splits are by patient. If no patient has two files, give --option each_file_own_patient=true instead."
    raise DataError(
        f"{path}: no column {words}; the columns are {', '.join(columns)}. Say which ones they are{guess}:",
        f"  clinvit prepare TASK '{path}' --out manifest.csv {options}",
        *([own] if "patient_column" in missing else []),
    )


def _like_patients(raw: pd.DataFrame) -> str | None:
    """Return the column that reads most like patients: texts or numbers with digits of which many rows share one."""
    shares = {
        name: raw[name].nunique() / len(raw)
        for name in raw.columns
        if raw[name].notna().all() and raw[name].astype(str).str.contains(r"\d", regex=True).all()
    }
    likely = {name: share for name, share in shares.items() if _LEAST <= share < 1 and share * len(raw) > 1}
    return max(likely, key=likely.__getitem__) if likely else None
