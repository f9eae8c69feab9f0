"""Files, folders and globs of the command line as cases, without pandas: for `clinvit-runtime` too."""

import csv
import hashlib
import io
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.documents import LARGE_JSON_BYTES, read_json
from ..core.errors import DataError, printable
from ..core.files import write_json
from ..core.platform import hide_from_others
from ..core.secret import checked_key, keyed_hash
from ..datasets.kinds import DICOM, UNKNOWN, ZARR, file_kind, is_zarr_folder
from ..datasets.manifest.contents import Entry, contents, summary

IDENTIFIERS = ("study", "series", "instance", "accession")  # columns of DICOM files; they name a person
REFUSED, CHOSEN, SOURCE = "refused", "chosen", "source"
Columns = dict[str, list]


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


def requested_files(inputs: Sequence[str], unit: str, one: bool = False) -> tuple[Columns, dict[str, int]]:
    """Return the cases that a user named, as columns, and how many files of the folders are none, by reason.

    Args:
        inputs: Files, folders and globs.
        unit: What a case is, as of `datasets.manifest.contents`.
        one: Of each DICOM study, keep the image that `datasets.images.studies` chooses; `chosen` says why.
    """
    found = expand(inputs, unit)
    if one:
        _one_per_study(found, unit)
    return columns_of(found), left_out_of(found)


def left_out_of(found: Expanded) -> dict[str, int]:
    """Return how many files are no cases, by reason."""
    return dict(sorted(found.left_out.items()))


def columns_of(found: Expanded) -> Columns:
    """Return files as cases, in columns.

    They are `id, path, patient, split, shown` (what stands for the path in a reason), `dicom`, whether names may be
    those of people (`pseudonyms`), `number`, the patient by the header or '', where there are headers `view` and
    `IDENTIFIERS`, and where there are such, `refused`, `chosen` and `source`; the patient is the number, else the id.
    """
    files, entries = found.files(), found.entries.values()
    stems = [printable(file.name if file.is_dir() else file.stem) for file in files]
    ids = stems if len(set(stems)) == len(stems) else [printable(file.as_posix()) for file in files]
    headers = [entry.header for entry in entries]
    paths = [str(file) for file in files]
    numbers = ["" if header is None else header.patient for header in headers]
    cases: Columns = {"id": ids, "path": paths, "number": numbers}
    cases["patient"] = [number or name for number, name in zip(numbers, ids, strict=True)]
    cases |= {"split": ["new"] * len(ids), "shown": list(paths), "dicom": [entry.is_dicom for entry in entries]}
    if any(header is not None for header in headers):
        for name in IDENTIFIERS:
            cases[name] = ["" if header is None else getattr(header, name) for header in headers]
        cases["view"] = ["" if header is None else header.sayable_view for header in headers]
    for name, said in ((CHOSEN, found.chosen), (REFUSED, found.refused), (SOURCE, found.sources)):
        if said:
            cases[name] = [said.get(file, "") for file in files]
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
            if path.is_dir() and is_zarr_folder(path):
                found.entries.setdefault(path, Entry(path.name, ZARR))
            elif path.is_dir():
                _add_folder(found, path, unit)
            elif (entry := _named_file(path)).header is not None and entry.header.is_directory:
                _add_folder(found, path.parent, unit)
            else:
                found.entries.setdefault(path, entry)
    if unit == "slide":
        _one_per_slide(found)
    return found


def pseudonyms(cases: Any, salt: str) -> Columns:
    """Return names of cases, hashes where a file is DICOM: `id`, `patient`, `shown`, and of headers `IDENTIFIERS`.

    Args:
        cases: Columns of `requested_files`, or a DataFrame of them.
        salt: Of the hashes, kept secret.
    """
    names: Columns = {"id": [], "patient": [], "shown": []}
    columns = (cases[key] for key in ("id", "patient", "shown", "dicom", "number", "path"))
    for own, patient, shown, dicom, number, path in zip(*columns, strict=True):
        if dicom:
            own = shown = keyed_hash(salt, str(Path(path).resolve()))
            patient = keyed_hash(salt, number) if number else own
        for key, value in zip(names, (own, patient, shown), strict=True):
            names[key].append(value)
    for name in IDENTIFIERS:
        if name in cases:
            names[name] = [keyed_hash(salt, text) if text else "" for text in cases[name]]
    return names


def fingerprint(cases: Any) -> str:
    """Return the SHA-256 of the ids and paths of cases, which are columns or a DataFrame."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("id", "path"), *zip(cases["id"], cases["path"], strict=True)])
    return hashlib.sha256(text.getvalue().encode(errors="surrogateescape")).hexdigest()


def name_salt(earlier: Sequence[Path] = ()) -> str:
    """Return the salt of hashes: that of the first key that is there already, else drawn anew.

    Args:
        earlier: Keys that `write_key` has written.
    """
    stored = {each: read_json(each, limit=LARGE_JSON_BYTES).get("salt") for each in earlier if each.exists()}
    salts = [checked_key(salt, str(each)) for each, salt in stored.items()]
    return next(iter(salts), "") or secrets.token_hex(32)


def write_key(key: Path, salt: str, ids: Sequence[str], paths: Sequence[str]) -> None:
    """Write which id is which file, for the owner alone."""
    # A name that is no UTF-8 is written escaped.
    files = [path.encode(errors="backslashreplace").decode() for path in paths]
    write_json(key, {"salt": salt, "files": dict(zip(ids, files, strict=True))}, private=True)
    hide_from_others(key)


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
