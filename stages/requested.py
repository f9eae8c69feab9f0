"""What a user named on the command line, as cases: files, folders, globs, or a manifest."""

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import DataError, UserError, printable
from ..core.secret import keyed_hash
from ..datasets.kinds import DICOM, UNKNOWN, file_kind
from ..datasets.manifest.contents import Entry, contents, summary
from ..datasets.manifest.tables import read_manifest
from ..finetune.pipeline import manifest_cases

LEFT_OUT = "left_out"  # in `attrs` of the cases: how many files of the folders are none, by reason
IDENTIFIERS = ("study", "series", "instance", "accession")  # columns of DICOM files; they name a person
REFUSED, CHOSEN, SOURCE = "refused", "chosen", "source"


@dataclass
class Expanded:
    """Inputs as files.

    Attributes:
        entries: By path, what each is; the path of an entry is not used.
        left_out: How many files of folders are no cases, by reason.
        chosen: By path, why this image of its study is scored, where one is.
        refused: By path, why a case fails before it is read.
        sources: By path, where a file came from that will not stay there.
    """

    entries: dict[Path, Entry] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    chosen: dict[Path, str] = field(default_factory=dict)
    refused: dict[Path, str] = field(default_factory=dict)
    sources: dict[Path, str] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """Return the files, and the folders of frames."""
        return list(self.entries)


def requested_cases(
    inputs: Sequence[str], labels: Sequence[str], unit: str, one: bool = False
) -> tuple[pd.DataFrame, np.ndarray]:
    """What a user named on the command line, as cases.

    The table `id, path, patient, split, shown` (what stands for the path in a reason: of a manifest the id), and (N, L)
    truth, NaN where unknown. Of files also `dicom`, whether their names may be those of people (`pseudonymised`),
    `number`, the patient by the header or '', and where there are headers `view` and `IDENTIFIERS`; the patient is the
    number, else the id. What of the folders is no case stands in `attrs[LEFT_OUT]`.

    Args:
        inputs: Files, folders, globs, or one manifest CSV.
        labels: Of the model.
        unit: What a case is, as of `datasets.manifest.contents`.
        one: Of each DICOM study, keep the image that `datasets.images.studies` chooses; `chosen` says why.
    """
    if len(inputs) == 1 and inputs[0].lower().endswith(".csv"):
        if one:
            raise UserError(f"{inputs[0]}: a manifest says what is scored: leave --images out.")
        return manifest_cases(read_manifest(inputs[0]), labels)
    found = expand(inputs, unit)
    if one:
        _one_per_study(found, unit)
    cases = cases_of(found)
    return cases, np.full((len(cases), len(labels)), np.nan)


def cases_of(found: Expanded) -> pd.DataFrame:
    """Return files as cases, as of `requested_cases`.

    Where there are such, `refused`, `chosen` and `source` are columns too.
    """
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
        for name in IDENTIFIERS:
            cases[name] = ["" if header is None else getattr(header, name) for header in headers]
        cases["view"] = ["" if header is None else header.sayable_view for header in headers]
    for name, said in ((CHOSEN, found.chosen), (REFUSED, found.refused), (SOURCE, found.sources)):
        if said:
            cases[name] = [said.get(file, "") for file in files]
    cases.attrs[LEFT_OUT] = dict(sorted(found.left_out.items()))
    return cases


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
    """Return predictions with what else is known of requested files: study, view; and what was left out (`attrs`)."""
    if "dicom" in cases:
        table = table.assign(**{name: cases[name] for name in (*IDENTIFIERS, "view", CHOSEN) if name in cases})
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
    for column in IDENTIFIERS:
        if column in cases:
            cases[column] = [keyed_hash(salt, text) if text else "" for text in cases[column]]
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


def _one_per_study(found: Expanded, unit: str) -> None:
    """Keep one image of each DICOM study, and note why; of a study of two patients one stays, which fails."""
    from ..datasets.images.studies import choose_image

    studies: dict[str, list[Path]] = {}
    headers = {path: entry.header for path, entry in found.entries.items() if entry.header is not None}
    for path, header in headers.items():
        studies.setdefault(header.study or str(path), []).append(path)
    for paths in studies.values():
        choice = choose_image([headers[path] for path in paths], unit)
        kept = paths[choice.index or 0]
        (found.refused if choice.index is None else found.chosen)[kept] = choice.why
        for path in paths:
            if path != kept:
                del found.entries[path]
        found.left_out.update(choice.left_out)


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
