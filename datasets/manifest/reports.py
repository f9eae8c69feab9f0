"""What radiologists wrote: reports of cases, from a column, a table or a folder of text files, cut into sentences."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError
from ...core.files import refuse_irregular
from .cells import read_csv
from .tables import Manifest

COLUMN = "report"
# Columns that join a table of reports to the manifest, and columns that hold text, of MIMIC-CXR and CheXpert Plus too.
JOINS = ("id", "study", "case", "accession")
TEXTS = (
    "report", "text", "findings", "impression", "section_findings", "section_impression", "befund", "beurteilung",
    "compte_rendu", "informe",
)  # fmt: skip
TABLES = (".csv", ".tsv", ".gz")
LONGEST = 100_000  # characters of a report; a longer one is no report
_PARTS = ("findings", "impression", "conclusion", "befund", "beurteilung")
_HEADING = re.compile(r"^[ \t]*([A-Za-z][A-Za-z /&,()-]{2,60}):", re.MULTILINE)
_ENDS = re.compile(r"(?<=[.!?;])\s+(?![a-z])|\n\s*\n|\n\s*(?=\d+[.)]\s)")
_NUMBER = re.compile(r"^\s*\d+[.)]\s+")


@dataclass(frozen=True)
class Sentences:
    """The different sentences of all reports, and which of them each case has.

    Attributes:
        texts: The sentences, each once.
        of_case: Per case the positions of its sentences, in the order of its report.
    """

    texts: tuple[str, ...]
    of_case: tuple[tuple[int, ...], ...]


def read_reports(manifest: Manifest, place: str | os.PathLike | None = None) -> list[str]:
    """Return the report of each case, empty where it has none.

    Args:
        manifest: The cases.
        place: A table with a column that the manifest has too (`JOINS`) and columns of text (`TEXTS`), or a folder of
            `.txt` files that are named after ids or studies, in any folders below it (MIMIC-CXR's). None is the
            manifest's column `report`.

    Raises:
        DataError: There is no such column, nothing fits a case, or a text is no text.
    """
    if place is None:
        if COLUMN not in manifest.table:
            raise DataError(
                f"{manifest.path}: no column {COLUMN!r}. Name a table or a folder of text files with --reports."
            )
        return [_tidy(text) for text in manifest.table[COLUMN]]
    path = Path(place)
    if path.is_dir():
        return _of_files(manifest, path)
    if path.suffix.lower() not in TABLES:
        raise DataError(f"{path}: reports are a table (.csv, .tsv) or a folder of .txt files.")
    return _of_table(manifest, path)


def sentences(reports: Iterable[str]) -> Sentences:
    """Cut reports into sentences; of a report with headings its findings and impression alone are taken."""
    known: dict[str, int] = {}
    of_case = [tuple(known.setdefault(text, len(known)) for text in _cut(report)) for report in reports]
    return Sentences(tuple(known), tuple(of_case))


def _of_table(manifest: Manifest, path: Path) -> list[str]:
    """Return the reports of a table by the column whose cells fit the most cases."""
    table = read_csv(path)
    lower = {str(column).strip().lower(): column for column in table.columns}
    texts = [lower[name] for name in TEXTS if name in lower]
    if not texts:
        raise DataError(f"{path}: no column of text among {', '.join(table.columns)}; one of: {', '.join(TEXTS)}.")
    best: pd.Series | None = None
    for name in JOINS:
        if name not in lower or name not in manifest.table:
            continue
        keys = table[lower[name]].map(_key)
        repeated = keys[keys.ne("") & keys.duplicated()]
        if len(repeated):
            raise DataError(f"{path}: row {repeated.index[0] + 2}: {name} {repeated.iloc[0]!r} stands twice.")
        found = manifest.table[name].map(_key).map(dict(zip(keys, range(len(table)))))
        if best is None or found.notna().sum() > best.notna().sum():
            best = found
    if best is None:
        raise DataError(f"{path}: it and the manifest have none of the columns {', '.join(JOINS)} in common.")
    if not best.notna().any():
        raise DataError(f"{path}: none of its rows is of a case of {manifest.path}.")
    joined = table[texts].agg("\n\n".join, axis=1).tolist()
    return ["" if np.isnan(row) else _tidy(joined[int(row)]) for row in best]


def _of_files(manifest: Manifest, folder: Path) -> list[str]:
    """Return the reports of text files that are named after ids or studies."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.txt")):
        other = files.setdefault(_key(path.stem), path)
        if other != path:
            raise DataError(f"{path}: {other} has the same name: whose report is it?")
    if not files:
        raise DataError(f"{folder}: no .txt file in it.")
    columns = [manifest.table[name].map(_key) for name in JOINS if name in manifest.table]
    best = max(columns, key=lambda keys: keys.isin(files).sum())
    if not best.isin(files).any():
        raise DataError(f"{folder}: none of its {len(files):,} .txt files is named after an id or study of a case.")
    return [_read(files[key]) if key in files else "" for key in best]


def _read(path: Path) -> str:
    refuse_irregular(path, DataError)
    with path.open("rb") as file:
        data = file.read(4 * LONGEST + 1)
    try:
        return _tidy(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return _tidy(data.decode("cp1252", errors="replace"))


def _tidy(text: str) -> str:
    if len(text) > LONGEST:
        raise DataError(f"a report of {len(text):,} characters: no report is longer than {LONGEST:,}.")
    return text.replace("\r\n", "\n").strip()


def _key(value: str) -> str:
    """Return an id or study as both sides write it: MIMIC-CXR's files say s50414267, its tables 50414267."""
    value = value.strip()
    return value[1:] if re.fullmatch(r"s\d+", value) else value


def _cut(report: str) -> list[str]:
    found = [" ".join(_NUMBER.sub("", part).split()) for text in _wanted(report) for part in _ENDS.split(text)]
    return [text for text in found if sum(letter.isalpha() for letter in text) >= 3]


def _wanted(report: str) -> Sequence[str]:
    """Return the findings and the impression of a report with headings, else the whole."""
    heads = list(_HEADING.finditer(report))
    ends = [*(head.start() for head in heads[1:]), len(report)]
    parts = [report[head.end() : end] for head, end in zip(heads, ends) if head[1].strip().lower().startswith(_PARTS)]
    return parts or [report]
