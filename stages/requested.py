"""What a user named on the command line, as cases: files, folders, globs, or a manifest."""

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import DataError, printable
from ..core.secret import keyed_hash
from ..datasets.kinds import DICOM, UNKNOWN, file_kind
from ..datasets.manifest.contents import Entry, contents, summary
from ..datasets.manifest.tables import Asked, read_manifest, truth_width
from ..finetune.pipeline import manifest_cases

LEFT_OUT = "left_out"  # in `attrs` of the cases: how many files of the folders are none, by reason


@dataclass
class Expanded:
    """Inputs as files.

    Attributes:
        entries: By path, what each is; the path of an entry is not used.
        left_out: How many files of folders are no cases, by reason.
    """

    entries: dict[Path, Entry] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def files(self) -> list[Path]:
        """Return the files, and the folders of frames."""
        return list(self.entries)


def requested_cases(inputs: Sequence[str], asked: Asked, unit: str) -> tuple[pd.DataFrame, np.ndarray]:
    """What a user named on the command line, as cases.

    The table `id, path, patient, split, shown` (what stands for the path in a reason: of a manifest the id), and (N, T)
    truth, NaN where unknown. Of files also `dicom`, whether their names may be those of people (`pseudonymised`),
    `number`, the patient by the header or '', and where there are headers `view`; the patient is the number, else the
    id. What of the folders is no case stands in `attrs[LEFT_OUT]`.

    Args:
        inputs: Files, folders, globs, or one manifest CSV.
        asked: Labels or targets of the model.
        unit: What a case is, as of `datasets.manifest.contents`.
    """
    if len(inputs) == 1 and inputs[0].lower().endswith(".csv"):
        return manifest_cases(read_manifest(inputs[0]), asked)
    found = expand(inputs, unit)
    files, entries = found.files(), found.entries.values()
    stems = [printable(file.name if file.is_dir() else file.stem) for file in files]
    ids = stems if len(set(stems)) == len(stems) else [printable(file.as_posix()) for file in files]
    headers = [entry.header for entry in entries]
    cases = pd.DataFrame({"id": ids, "path": [str(file) for file in files]})
    cases["number"] = ["" if header is None else header.patient for header in headers]
    cases["patient"] = cases["number"].mask(cases["number"] == "", cases["id"])
    cases["split"] = "new"
    cases["shown"] = cases["path"]
    cases["dicom"] = [entry.is_dicom for entry in entries]
    if any(header is not None for header in headers):
        cases["view"] = ["" if header is None else header.view for header in headers]
    cases.attrs[LEFT_OUT] = dict(sorted(found.left_out.items()))
    return cases, np.full((len(cases), truth_width(asked)), np.nan)


def expand(inputs: Sequence[str], unit: str) -> Expanded:
    """Return files, what folders hold, and what globs match; a file that was named stays, whatever it is.

    Args:
        inputs: Files, folders and globs. A DICOMDIR stands for its folder.
        unit: What a case is, as of `datasets.manifest.contents`.

    Raises:
        DataError: A folder without a case, or a glob that matches nothing.
    """
    found = Expanded()
    for text in inputs:
        for path in _matches(text):
            if path.is_dir():
                _add_folder(found, path, unit)
            elif (entry := _named_file(path)).header is not None and entry.header.is_directory:
                _add_folder(found, path.parent, unit)
            else:
                found.entries.setdefault(path, entry)
    if unit == "slide":
        _one_per_slide(found)
    return found


def marked(table: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """Return predictions with what else is known of requested files: their `view`, and what was left out (`attrs`)."""
    if "dicom" in cases:
        if "view" in cases:
            table = table.assign(view=cases["view"])
        table.attrs[LEFT_OUT] = cases.attrs.get(LEFT_OUT, {})
    return table


def pseudonymised(cases: pd.DataFrame, salt: str = "") -> tuple[pd.DataFrame, str]:
    """The cases with hashes for the ids and patients of DICOM files, whose names are often names or numbers of people.

    Args:
        cases: As from `requested_cases` of files, not of a manifest, which has been made without names already; `shown`
            becomes the hash too.
        salt: Of the hashes, kept secret; drawn anew if empty.

    Returns:
        The cases and the salt. A file without a patient number is its own patient.
    """
    salt, cases = salt or secrets.token_hex(32), cases.copy()
    for row in np.flatnonzero(cases["dicom"]):
        number, name = cases["number"].iloc[row], keyed_hash(salt, str(Path(cases["path"].iloc[row]).resolve()))
        cases.loc[row, ["id", "patient", "shown"]] = name, keyed_hash(salt, number) if number else name, name
    return cases, salt


def _matches(text: str) -> Iterator[Path]:
    """Yield the path itself, or what a glob matches."""
    path = Path(text)
    if path.exists() or not any(sign in text for sign in "*?["):
        yield path
        return
    found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor) if path.anchor else path)))
    if not found:
        raise DataError(f"{text}: no file matches.")
    yield from found


def _add_folder(found: Expanded, folder: Path, unit: str) -> None:
    held = contents(folder, unit)
    if not held.entries:
        what = summary(held.counts())
        raise DataError(
            f"{folder}: no file in this folder that the model reads ({unit}s){f'; {what}' if what else ''}. "
            "What is left out of folders is predicted where it is named itself."
        )
    for entry in held.entries:
        found.entries.setdefault(folder / entry.path, entry)
    found.left_out.update(held.counts())


def _one_per_slide(found: Expanded) -> None:
    """Keep one of several files that were named of one DICOM slide: the largest level."""
    from ..datasets.slides.dicom_series import FURTHER, slides_of

    headers = {path: entry.header for path, entry in found.entries.items() if entry.header is not None}
    for path, slide in slides_of({path: header for path, header in headers.items() if header.is_slide}).items():
        if slide not in (path, None):  # what was named alone stays, whatever it is
            del found.entries[path]
            found.left_out[FURTHER] += 1


def _named_file(path: Path) -> Entry:
    """Return what a file is that was named itself; one that cannot be read fails as a case later."""
    from ..datasets.images.dicom_header import read_header

    try:
        kind = file_kind(path)
        return Entry(path.name, kind, read_header(path) if kind == DICOM else None)
    except DataError:
        return Entry(path.name, DICOM if path.is_file() else UNKNOWN)
