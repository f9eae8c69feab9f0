"""A DICOM slide is one series: the file of its largest level stands for it; label, macro and thumbnail are no slide."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ...core.errors import DataError
from ..kinds import is_dicom

if TYPE_CHECKING:
    from ..images.dicom_header import DicomHeader

FURTHER = "further file of a DICOM slide"
NO_VOLUME = "label, macro or thumbnail of a DICOM slide"
# The third value of ImageType (PS3.3 C.8.12.4.1.1); a file that does not state it is left to OpenSlide's words.
_ASIDE = ("LABEL", "OVERVIEW", "THUMBNAIL", "LOCALIZER")

File = TypeVar("File", bound=Hashable)


def slides_of(headers: Mapping[File, "DicomHeader"]) -> dict[File, File | None]:
    """Return for each file the one that stands for its slide; None for a series that holds no level of a slide.

    Args:
        headers: Of whole-slide instances, by file. Without a SeriesInstanceUID a file is its own slide.
    """
    series: dict[object, list[File]] = {}
    for file, header in headers.items():
        series.setdefault(header.series or ("", file), []).append(file)
    found: dict[File, File | None] = {}
    for files in series.values():
        levels = [file for file in files if headers[file].flavour not in _ASIDE]
        largest = min(levels, key=lambda file: (-headers[file].matrix_px, str(file)), default=None)
        found |= dict.fromkeys(files, largest)
    return found


def imaged_um(path: Path, size_px: tuple[int, int]) -> tuple[float, float] | tuple[None, None]:
    """Return width and height of a level-0 pixel in microns by the imaged volume, which all levels share.

    Args:
        path: A file of the slide.
        size_px: Width and height of level 0.
    """
    from ..images.dicom import read_elements

    with path.open("rb") as file:
        header = read_elements(path, file, ("ImagedVolumeWidth", "ImagedVolumeHeight"), stop_before_pixels=True)
    width_mm, height_mm = header.get("ImagedVolumeWidth"), header.get("ImagedVolumeHeight")
    if not width_mm or not height_mm:
        return None, None
    return 1000 * float(width_mm) / size_px[0], 1000 * float(height_mm) / size_px[1]


def slide_in_folder(folder: Path) -> Path:
    """Return the file that stands for the only DICOM slide in a folder.

    Raises:
        DataError: There is none, or several.
    """
    from ..images.dicom_header import read_header

    headers: dict[Path, DicomHeader] = {}
    for file in sorted(folder.iterdir()):
        if is_dicom(file) and (header := read_header(file)).is_slide:
            headers[file] = header
    found = sorted({file for file in slides_of(headers).values() if file is not None})
    if not found:
        raise DataError(f"{folder}: a folder without a DICOM slide in it. Name the slide's file.")
    if len(found) > 1:
        raise DataError(
            f"{folder}: a folder of {len(found)} DICOM slides (told apart by SeriesInstanceUID). Name a file of the "
            f"one that is meant, such as {found[0].name}."
        )
    return found[0]
