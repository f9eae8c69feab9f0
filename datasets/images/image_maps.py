"""Maps of where a model of images looked, one HDF5 file per case: small, without pickle, readable in any language.

`maps` (L, gh, gw) float16, compressed, holds one grid per label, divided by its own maximum (a grid of zeros stays).

Attributes:
`labels` (L names), `extent_px` (left, top, right, bottom of the grid in pixels of the file as it is read, of which
parts may lie outside of it), `width_px` and `height_px` of that image, `id`, `method`, and `model`, the SHA-256 of
its weights. Maps that are probabilities (method `dense`) also have `highest`, each map's maximum before it was divided
by it, and `thresholds`, from which probability on a pixel belongs to the finding.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ...core.errors import DataError
from ...core.files import written_aside

_MOST_VALUES = 2**25  # of all labels together: 32 labels of 1,024 x 1,024 px
_LONGEST = 150  # characters of a file name's stem; file systems take 255 bytes with what is added


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """Where a model looked in one image.

    Attributes:
        id: Of the case.
        labels: L names.
        maps: (L, gh, gw) at least 0, of any scale.
        extent_px: Left, top, right and bottom of the grid in px of the image as it is read.
        width_px, height_px: Of that image.
        method: How the maps were made.
        model: SHA-256 of the model's weights.
        highest: Of maps that are probabilities, the maximum of each; of those that were read again, `maps` times
            `highest` are the probabilities. Empty where the scale of a map means nothing.
        thresholds: Of the same, from which probability on a pixel belongs to the finding.
    """

    id: str
    labels: tuple[str, ...]
    maps: np.ndarray
    extent_px: tuple[float, float, float, float]
    width_px: int
    height_px: int
    method: str
    model: str
    highest: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()

    def probabilities(self, label: str) -> np.ndarray | None:
        """Return (gh, gw) probabilities of a label as they were read again; None where the maps are of no scale."""
        place = self.labels.index(label)
        return self.maps[place] * self.highest[place] if self.highest else None


def case_file(folder: Path, case: str, suffix: str) -> Path:
    """Name a file for any id: what is not a letter, a digit or one of `_.-~` is percent-encoded.

    Long names are cut and end in a hash of the whole.
    """
    name = quote(case, safe="")
    if name.startswith("."):  # no hidden file, no folder above
        name = "%2E" + name[1:]
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST - 33]}-{hashlib.sha256(case.encode()).hexdigest()[:32]}"
    return Path(folder) / f"{name}{suffix}"


def write_maps(path: Path, case: ImageMaps) -> None:
    """Write the maps of a case, atomically.

    Raises:
        DataError: A value is negative, NaN or infinite.
    """
    import h5py

    if not (np.isfinite(case.maps).all() and (case.maps >= 0).all()):
        raise DataError(f"{case.id}: the model gives a map that is no number. Are its weights sound?")
    highest = case.maps.max(axis=(1, 2), keepdims=True)
    scaled = np.divide(case.maps, highest, out=np.zeros(case.maps.shape), where=highest > 0)
    with written_aside(path) as aside, h5py.File(aside, "w") as file:
        file.create_dataset("maps", data=scaled.astype(np.float16), compression="gzip", shuffle=True)
        file["maps"].attrs.update(
            {
                "id": case.id,
                "labels": list(case.labels),
                "extent_px": case.extent_px,
                "width_px": case.width_px,
                "height_px": case.height_px,
                "method": case.method,
                "model": case.model,
            }
        )
        if case.highest:
            file["maps"].attrs.update({"highest": case.highest, "thresholds": case.thresholds})


def read_maps(path: Path) -> ImageMaps:
    """Read what `write_maps` wrote.

    Raises:
        DataError: Missing, damaged, or another file.
    """
    import h5py

    from ..loading.contained import refuse_inflated, refuse_pointers

    path = Path(path)
    advice = "Write it again: `clinvit predict ... --explain FOLDER`."
    if not path.is_file():
        raise DataError(f"{path}: no such file. {advice}")
    try:
        with h5py.File(path) as file:
            refuse_pointers(path, file)
            refuse_inflated(path, file)
            if (size := file["maps"].size) > _MOST_VALUES:
                raise DataError(
                    f"{path}: refused: `maps` holds {size:,} values, more than maps of an image do. {advice}"
                )
            maps, attrs = file["maps"][:].astype(np.float64), dict(file["maps"].attrs)
        left, top, right, bottom = map(float, attrs["extent_px"])
        case = ImageMaps(
            id=attrs["id"],
            labels=tuple(attrs["labels"]),
            maps=maps,
            extent_px=(left, top, right, bottom),
            width_px=int(attrs["width_px"]),
            height_px=int(attrs["height_px"]),
            method=attrs["method"],
            model=attrs["model"],
            highest=tuple(map(float, attrs.get("highest", ()))),
            thresholds=tuple(map(float, attrs.get("thresholds", ()))),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: no readable maps of an image ({' '.join(str(error).split())}). {advice}") from None
    if maps.ndim != 3 or len(maps) != len(case.labels):
        raise DataError(f"{path}: maps of the shape {maps.shape} for {len(case.labels)} labels. {advice}")
    scale = np.array([*case.highest, *case.thresholds])
    if case.highest and not (
        len(case.highest) == len(case.thresholds) == len(case.labels) and ((scale >= 0) & (scale <= 1)).all()
    ):
        raise DataError(f"{path}: probabilities without a maximum or a threshold for each label. {advice}")
    if not (np.isfinite(maps).all() and (maps >= 0).all()):
        raise DataError(f"{path}: a map holds what is no number at or above 0. {advice}")
    return case
