"""The one way from a case to files of DICOM objects."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydicom import Dataset

from ...core.errors import DataError, RunError, UserError
from ...core.extras import require
from ...core.files import written_aside
from ...datasets.images.dicom import quiet
from ...datasets.images.image_maps import case_file
from .case import ResultCase, checked_kinds

Maker = Callable[[ResultCase, Sequence[Dataset]], Iterable[Dataset]]


def write_results(case: ResultCase, kinds: Iterable[str], folder: Path) -> list[Path]:
    """Write the results of a case as DICOM files, and return their paths in the order of `KINDS`.

    A failed case has a report that says so, and nothing else: no other kind can say it. A case without maps has no
    segmentation and no parametric map. Files are the owner's alone (0600), as they name the patient:
    `<case's id>-<kind>[-<number>].dcm`; what stands there is replaced. The UIDs of a repeated call are the same
    (`uids`).

    Args:
        case: What is known; its `sources` are DICOM files of one study of one patient.
        kinds: Of `KINDS`.
        folder: Where to; made if missing.

    Raises:
        UserError: An unknown kind, or `highdicom` is not installed.
        DataError: A source is no DICOM file, lacks a UID, or the sources are of several studies or patients; or an
            object cannot be made of this source. The message names the case, and no value of a header.
        RunError: The disk is full, or the folder cannot be written. What was written before is whole.
    """
    wanted = checked_kinds(kinds)
    require("highdicom", "dicom", "writing DICOM results")
    from .source import read_sources

    sources = read_sources(case.sources)
    written: list[Path] = []
    for kind in ["sr"] if case.reason and "sr" in wanted else [] if case.reason else wanted:
        found = _made(kind, case, sources)
        for number, made in enumerate(found, 1):
            path = case_file(folder, case.id, f"-{kind}{f'-{number}' * (len(found) > 1)}.dcm")
            _save(made, path)
            written.append(path)
    return written


def _makers() -> dict[str, Maker]:
    from .capture import captures
    from .document import documents
    from .maps import parametric_maps, segmentations
    from .report import reports

    return {"sr": reports, "seg": segmentations, "pm": parametric_maps, "sc": captures, "pdf": documents}


def _made(kind: str, case: ResultCase, sources: Sequence[Dataset]) -> list[Dataset]:
    """Return the objects of a kind; whatever a library raises quotes values of the header, and so is not shown."""
    make = _makers()[kind]
    try:
        with quiet():
            return list(make(case, sources))
    except (UserError, RunError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"{case.id}: no DICOM {kind} could be made of this file ({type(error).__name__}): its header is not as the "
            "standard has it."
        ) from None


def _save(made: Dataset, path: Path) -> None:
    try:
        with written_aside(path, private=True) as aside, quiet():
            made.save_as(aside, enforce_file_format=True)
    except OSError as error:
        raise RunError(f"{path.parent}: cannot be written ({error.strerror}). Name another folder.") from None
