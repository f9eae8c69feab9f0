"""What a folder holds: the one rule for `prepare`, `check`, `predict` and Python.

First bytes and headers decide, names do not. Whatever is no case is counted by its reason.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ...core.documents import read_json
from ...core.errors import DataError
from ..kinds import DICOM, EMPTY, HDF5, HEAD, IMAGES, UNKNOWN, VIDEOS, ZARR, ZIPPED_ZARR, is_zarr_folder, kind_of

if TYPE_CHECKING:
    from ..images.dicom_header import DicomHeader, Wanted

FRAMES = "folder of frames"
NOT_THERE = "file that a DICOMDIR lists and that is not there"
HIDDEN = "hidden file"
IRREGULAR = "pipe, device or broken link"
UNREADABLE = "file that cannot be opened"
ALONE = "image, not a clip"
_FEW = 20  # files of a folder are looked at for whose they are
_DICOM_NAMES = (".dcm", ".dicom")
_FRAME_KINDS = ("JPEG", "PNG")
# What stands behind the last dot may be a part of a name: only these endings are repeated.
_ENDINGS = frozenset(
    "csv tsv txt xls xlsx ods json yaml yml xml pdf zip gz tar 7z rar html htm md doc docx rtf log db ini inf exe dll "
    "jar py ipynb npy npz nii nrrd mha mat pkl pt pth h5 ts dat bin svg heic psd".split()
)
# What cases are made of, by unit: `image` (of any kind), `radiograph` (of the chest), `clip`, `slide`, `features`.
KINDS = {
    "image": (*IMAGES, DICOM),
    "radiograph": (*IMAGES, DICOM),
    "clip": (*VIDEOS, DICOM),
    "slide": ("TIFF", "JPEG", "PNG", DICOM, ZARR, ZIPPED_ZARR),
    "features": (HDF5,),
}


class Entry(NamedTuple):
    """A case in a folder.

    Attributes:
        path: Relative to the folder, with `/`; `.` for the folder itself as a clip of frames.
        kind: As of `kinds.kind_of`, or `FRAMES`. `UNKNOWN` or `EMPTY`: a damaged file, whose name alone says that it
            was a case; so is a DICOM file without a `header`.
        header: Of a DICOM file whose header can be read.
    """

    path: str
    kind: str
    header: "DicomHeader | None" = None

    @property
    def is_dicom(self) -> bool:
        """Whether its name may be that of a person, as names of DICOM files often are."""
        return self.kind == DICOM or (self.kind in (UNKNOWN, EMPTY) and self.path.lower().endswith(_DICOM_NAMES))

    @property
    def is_damaged(self) -> bool:
        """Whether it will not be read."""
        return self.kind in (UNKNOWN, EMPTY) or (self.kind == DICOM and self.header is None)


@dataclass
class Contents:
    """What a folder holds.

    Attributes:
        entries: The cases, sorted by path.
        left_out: By reason, the files that are none.
        standing: Of every file of a DICOM slide, the file that stands for the slide.
    """

    entries: list[Entry] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    standing: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return how many files were left out, by reason."""
        return {reason: len(files) for reason, files in sorted(self.left_out.items())}

    def leave_out(self, path: str, reason: str) -> None:
        """Count a file that is no case."""
        self.left_out.setdefault(reason, []).append(path)


def contents(root: Path, unit: str, wanted: "Wanted | None" = None, *, headers: bool = True) -> Contents:
    """Return the cases below a folder, and what else there is.

    Args:
        root: The folder. Hidden folders are not entered, links to folders once.
        unit: What a case is: `image`, `radiograph`, `clip`, `slide` or `features`.
        wanted: Which DICOM images are cases; None for all that fit the unit.
        headers: False reads no header of DICOM files, which are all cases then: a quick look.
    """
    from ..images.dicom_header import DIRECTORY, Wanted

    wanted = wanted or Wanted()
    found = Contents()
    for folder, files in kinds_below(root, found):
        if unit == "clip" and is_clip_of_frames(files):
            found.entries.append(Entry(folder.rstrip("/") or ".", FRAMES))
            for path, kind in files:
                if kind not in _FRAME_KINDS:
                    found.leave_out(path, _other(path, kind))
            continue
        for path, kind in files:
            entry, reason = (
                _entry(root, path, kind, unit, wanted) if headers or kind != DICOM else (Entry(path, kind), "")
            )
            if reason:
                found.leave_out(path, reason)
            else:
                found.entries.append(entry)
    if unit == "slide":
        _one_per_slide(found)
    found.entries.sort()
    for directory in found.left_out.get(DIRECTORY, []):
        for path in _missing(root, directory):
            found.leave_out(path, NOT_THERE)
    return found


def kinds_below(root: Path, found: Contents) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield every folder below `root`, and its files with their kinds; `found` counts what is no file.

    Yields:
        The folder relative to `root`, `` or with `/` at its end, and sorted pairs of relative path and kind.
    """
    waiting, entered = [""], set()
    while waiting:
        folder = waiting.pop()
        if (key := _identity(root / folder)) in entered:
            continue
        entered.add(key)
        files, zarrs = [], set()
        with os.scandir(root / folder) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                path = folder + entry.name
                if entry.name.startswith("."):
                    found.leave_out(path, HIDDEN)
                elif entry.is_dir() and is_zarr_folder(root / path):  # one thing, of thousands of files
                    files.append(path)
                    zarrs.add(path)
                elif entry.is_dir():
                    waiting.append(f"{path}/")
                elif not entry.is_file():
                    found.leave_out(path, IRREGULAR)
                else:
                    files.append(path)
        yield folder, list(_with_kinds(root, files, zarrs, found))


def is_clip_of_frames(files: list[tuple[str, str]]) -> bool:
    """Return whether the files of one folder are the frames of a clip: JPEG or PNG, whose names differ in numbers."""
    names = {re.sub(r"\d+", "0", Path(path).name) for path, kind in files if kind in _FRAME_KINDS}
    images = sum(kind in _FRAME_KINDS for _, kind in files)
    clips = any(kind in (*VIDEOS, DICOM) or path.lower().endswith(suffixes("clip")) for path, kind in files)
    return images > 1 and len(names) == 1 and not clips


def is_archive(root: Path, entries: list[Entry]) -> bool:
    """Return whether the folders below `root` are those of a DICOM archive or medium and not classes.

    There is a DICOMDIR, or every folder holds DICOM files of one patient only.
    """
    if (root / "DICOMDIR").is_file():
        return True
    if not all(entry.kind == DICOM for entry in entries):
        return False
    folders: dict[str, list[str]] = {}
    for entry in entries:
        folders.setdefault(entry.path.partition("/")[0], []).append(entry.path)
    return all(len({_patient(root / path) for path in files[:_FEW]}) == 1 for files in folders.values())


def summary(counts: dict[str, int]) -> str:
    """Return in words what was left out, '' for nothing: `left out 3 files: 2 x DICOMDIR, 1 x .txt file`."""
    total = sum(counts.values())
    parts = "; ".join(f"{number:,} x {reason}" for reason, number in counts.items())
    return f"left out {total:,} file{'s' * (total != 1)}: {parts}" if total else ""


def holds_of(manifest: Path) -> str:
    """Return what a case in the folders of a manifest's data set is, as `prepare` stored it beside it; '' if not."""
    beside = manifest.with_suffix(".json")
    holds = read_json(beside).get("holds") if beside.is_file() else ""
    return holds if holds in KINDS else ""


def suffixes(unit: str) -> tuple[str, ...]:
    """Return the usual endings of the files of a unit: a damaged file of such a name is a case that fails."""
    if unit == "clip":
        from ..video.clips import CLIP_SUFFIXES

        return CLIP_SUFFIXES
    if unit == "slide":
        from ..slides.reading import SLIDE_SUFFIXES

        return SLIDE_SUFFIXES
    if unit == "features":
        return (".h5",)
    from ..images.radiographs import RADIOGRAPH_SUFFIXES

    return RADIOGRAPH_SUFFIXES


def _missing(root: Path, directory: str) -> list[str]:
    """Return the files that a DICOMDIR lists and that are not there, in whatever case a medium was copied."""
    from ..images.dicom_header import listed_files

    folder = (root / directory).parent
    listed = [folder / file for file in listed_files(root / directory)]
    there = {str(file).casefold() for file in folder.rglob("*")} if listed else set()
    return [str(file.relative_to(root)) for file in listed if str(file).casefold() not in there]


def _one_per_slide(found: Contents) -> None:
    """Keep of the files of each DICOM slide the one that stands for it."""
    from ..slides.dicom_series import FURTHER, NO_VOLUME, slides_of

    of = slides_of({entry.path: entry.header for entry in found.entries if entry.header is not None})
    for path, slide in of.items():
        if slide is None:
            found.leave_out(path, NO_VOLUME)
        else:
            found.standing[path] = slide
            if slide != path:
                found.leave_out(path, FURTHER)
    found.entries = [entry for entry in found.entries if of.get(entry.path, entry.path) == entry.path]


def _patient(path: Path) -> str:
    from ..images.dicom_header import read_header

    try:
        return read_header(path).patient
    except DataError:
        return ""


def _with_kinds(root: Path, files: list[str], zarrs: set[str], found: Contents) -> Iterator[tuple[str, str]]:
    for path in files:
        if path in zarrs:
            yield path, ZARR
            continue
        try:  # known to be a regular file; without `pathlib` and buffers, which take twice the time
            with open(os.path.join(root, path), "rb", buffering=0) as file:  # noqa: PTH118, PTH123
                kind = kind_of(file.read(HEAD))
        except OSError:
            found.leave_out(path, UNREADABLE)
        else:
            yield path, kind


def _identity(folder: Path) -> tuple[int, int]:
    """Return what tells a folder from all others, however many links lead to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _entry(root: Path, path: str, kind: str, unit: str, wanted: "Wanted") -> tuple[Entry, str]:
    """Return a file as a case, and why it is none."""
    if kind == DICOM:
        return _dicom_entry(root, path, unit, wanted)
    entry = Entry(path, kind)
    if kind in (UNKNOWN, EMPTY):
        return entry, "" if path.lower().endswith(suffixes(unit)) else _other(path, kind)
    if kind not in KINDS[unit]:
        return entry, ALONE if unit == "clip" and kind in IMAGES else _other(path, kind)
    return entry, "image without a DICOM header, which would say its view" if wanted.needs_header() else ""


def _dicom_entry(root: Path, path: str, unit: str, wanted: "Wanted") -> tuple[Entry, str]:
    from ..images.dicom_header import RESULT, not_wanted, read_header

    try:
        header = read_header(root / path)
        damaged = header.is_cut_off
    except DataError:
        damaged = True
    if damaged and unit != "features":  # the case fails when it is read, and says why
        return Entry(path, DICOM), ""
    entry = Entry(path, DICOM, header)
    if unit in ("image", "radiograph"):
        return entry, not_wanted(header, wanted, chest=unit == "radiograph")
    if unit == "features":
        return entry, _other(path, DICOM)
    if header.is_directory:
        return entry, not_wanted(header, wanted, chest=False)
    if header.size is None:
        return entry, f"DICOM without an image ({header.words()})"
    if header.is_result:
        return entry, RESULT
    if header.is_slide != (unit == "slide"):
        return entry, f"DICOM that is no {unit} ({header.words()})"
    return entry, ""


def _other(path: str, kind: str) -> str:
    """Return what a file is that is no case."""
    if kind == EMPTY:
        return "empty file"
    if kind in VIDEOS:
        return f"video ({kind})"
    if kind != UNKNOWN:
        return kind if kind == ZARR else f"{kind} file"
    ending = Path(path).suffix[1:].lower()
    return f".{ending} file" if ending in _ENDINGS else "file of an unknown kind"
