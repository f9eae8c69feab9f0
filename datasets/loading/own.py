"""A data set of one's own: the items of any `torch.utils.data.Dataset` as the cases of a training.

An item is an image, `(image, target)`, or a mapping with `image` and perhaps `target`, `id` and `patient`. An image is
a PIL image, an array (H, W) or (H, W, C), or a tensor (H, W) or (C, H, W), C 1 or 3: uint8, or floats in 0..1 that are
not normalised, as the recipe does that. A clip has an axis of time before H. A target is a vector of 0, 1 and NaN
(unknown), or the number of a class. Attributes `targets`, `ids` and `patients` of a data set spare a first pass over
its items; without patients, every item counts as one. Attributes `studies` and `cases` say what items belong together.
"""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset

from ...core.errors import DataError, UserError
from ..manifest.tables import Manifest, refuse_patient_overlap
from .loaders import View

_UNITS = {"study": "studies", "case": "cases"}  # columns of a manifest, and the attributes that give them


class Item(NamedTuple):
    """An item of a data set, its parts by name; None where it has none."""

    image: Any
    target: Any = None
    id: Any = None
    patient: Any = None

    @classmethod
    def of(cls, item: Any) -> "Item":
        """Return the parts of what a data set gave."""
        if isinstance(item, Mapping):
            return cls(*(item.get(name) for name in cls._fields))
        return cls(*item[:2]) if isinstance(item, tuple | list) else cls(item)


class OwnPixels:
    """uint8 pixels of items, a source for `Cases`.

    Args:
        datasets: One after the other.
        channels: Of the model.
        frames: Of the model; 1 for images.

    Attributes:
        apart: See `Files`: the items are made where they are asked for.
    """

    apart = ""

    def __init__(self, datasets: Sequence[Dataset], channels: int, frames: int):
        self.items, self.channels, self.frames = ConcatDataset(datasets), channels, frames

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the pixels of an item, ([T,] H, W[, 3]) uint8.

        Raises:
            UserError: Not an image as described above.
        """
        return as_pixels(Item.of(self.items[int(row)]).image, self.channels, self.frames)

    def reasons(self) -> list[str]:
        """Return N empty texts: nothing has been tried yet."""
        return [""] * len(self)


class Transformed:
    """A view of images that a transform of one's own has changed before.

    Args:
        view: The recipe's.
        transform: (H, W[, 3]) uint8 to an image as described above.
        channels: Of the model.
        frames: Of the model.

    Raises:
        UserError: The cases are clips.
    """

    def __init__(self, view: View, transform: Callable[[np.ndarray], Any], channels: int, frames: int):
        if frames > 1:
            raise UserError("transform is for images; how clips are changed the recipe's augment says. Leave it out.")
        self.view, self.transform, self.channels = view, transform, channels

    def __call__(self, pixels: np.ndarray, seed: int) -> np.ndarray | dict[str, np.ndarray]:
        """Return what the view makes of the changed image; all draws are seeded."""
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - what others draw from
        torch.manual_seed(seed)
        return self.view(as_pixels(self.transform(pixels), self.channels, frames=1), seed)


def as_pixels(image: Any, channels: int, frames: int) -> np.ndarray:
    """Return an image as described above, or a clip, as ([T,] H, W[, 3]) uint8.

    Raises:
        UserError: It is none, has three channels where the model has one, or is normalised already.
    """
    if isinstance(image, Image.Image):
        image = image if image.mode in ("L", "RGB", "I;16", "I", "F") else image.convert("RGB")
    first = isinstance(image, torch.Tensor)
    pixels = image.detach().cpu().numpy() if first else np.asarray(image)
    sides = 3 if frames > 1 else 2
    if pixels.ndim == sides + 1 and (first or pixels.shape[-1] not in (1, 3)):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == sides + 1 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (sides, sides + 1) or (pixels.ndim > sides and pixels.shape[-1] != 3):
        raise UserError(f"an item of the shape {np.shape(image)}: one or three channels, and {sides} more axes.")
    if pixels.ndim > sides and channels == 1:
        raise UserError("an item has three channels and the model one: set model.channels 3, or make the items grey.")
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind != "f" or not (pixels.min() >= 0 and pixels.max() <= 1):
        raise UserError(
            f"an item holds {pixels.dtype} from {pixels.min():.4g} to {pixels.max():.4g}: give uint8, or floats in "
            "0..1 that are not normalised; the recipe's data.mean and data.std do that."
        )
    return np.rint(pixels * 255).astype(np.uint8)


def own_manifest(parts: Mapping[str, Dataset], labels: Sequence[str] | None) -> Manifest:
    """Return the manifest of data sets; its cases have no path.

    Args:
        parts: By split, in the order of `OwnPixels`.
        labels: Names of the targets; () leaves them alone. None takes the attribute `classes`, or counts.

    Raises:
        DataError: Targets that are none, an id twice, or a patient in two splits.
    """
    found = {split: _facts(dataset, labels != ()) for split, dataset in parts.items()}
    where = Path(" and ".join(dict.fromkeys(type(dataset).__name__ for dataset in parts.values())))
    splits = np.repeat(list(found), [len(dataset) for dataset in parts.values()])
    targets, ids, patients = ([value for fact in found.values() for value in fact[place]] for place in range(3))
    values = np.zeros((len(splits), 0), np.float32)
    if labels != ():
        classes = next((dataset.classes for dataset in parts.values() if hasattr(dataset, "classes")), None)
        values, labels = _matrix(targets, labels or classes, where)
    # Made-up ids differ from one data set to another: cases are recognised by them.
    digest = hashlib.sha256(f"{where} {len(splits)}".encode() + values.tobytes()).hexdigest()[:8]
    ids = [f"{digest}-{row}" if given is None else str(given) for row, given in enumerate(ids)]
    patients = [own if given is None else str(given) for own, given in zip(ids, patients, strict=True)]
    table = pd.DataFrame({"id": ids, "path": "", "patient": patients, "split": splits})
    for column, attribute in _UNITS.items():
        if any(getattr(dataset, attribute, None) is not None for dataset in parts.values()):
            table[column] = [name for dataset in parts.values() for name in _named(dataset, attribute, where)]
    if not table["id"].is_unique:
        raise DataError(f"{where}: the id {table['id'][table['id'].duplicated()].iloc[0]!r} stands twice.")
    refuse_patient_overlap(where, table)
    for label, column in zip(labels, values.T, strict=True):
        table[label] = column.astype(np.float64)
    return Manifest(where, table, tuple(labels))


def _named(dataset: Dataset, attribute: str, where: Path) -> list[str]:
    """Return what each item of a data set belongs to, '' where that is not known."""
    given = getattr(dataset, attribute, None)
    if given is not None and len(given) != len(dataset):
        raise DataError(f"{where}: {len(given)} {attribute} of {len(dataset)} items.")
    return [""] * len(dataset) if given is None else ["" if name is None else str(name) for name in given]


def _facts(dataset: Dataset, with_targets: bool) -> tuple[Sequence, Sequence, Sequence]:
    """Return targets, ids and patients of all items: as attributes, else from the items, each read once."""
    given = [getattr(dataset, name, None) for name in ("targets", "ids", "patients")]
    if given[0] is None and with_targets:
        items = [Item.of(dataset[row])[1:] for row in range(len(dataset))]
        read = list(zip(*items, strict=True)) if items else [(), (), ()]
        given = [own if value is None else value for own, value in zip(read, given, strict=True)]
    return tuple([None] * len(dataset) if value is None else list(value) for value in given)


def _matrix(targets: Sequence, labels: Sequence[str] | None, where: Path) -> tuple[np.ndarray, Sequence[str]]:
    """Return (N, L) targets of 0, 1 and NaN, and the names of the labels; numbers of classes become vectors."""
    try:
        values = np.stack([np.atleast_1d(np.asarray(target, np.float32)) for target in targets])
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: a target is a vector of 0, 1 and NaN, or the number of a class ({error}).") from None
    if values.shape[1] == 1 and (len(labels or ()) > 1 or np.nanmax(values) > 1):
        known, count = ~np.isnan(values[:, 0]), len(labels) if labels else int(np.nanmax(values)) + 1
        labels = labels or [f"class_{number}" for number in range(count)]
        each = np.full((len(values), count), np.nan, np.float32)
        each[known] = values[known] == np.arange(count)
        values = each
    labels = labels or [f"label_{number}" for number in range(values.shape[1])]
    if values.ndim != 2 or values.shape[1] != len(labels):
        raise DataError(f"{where}: targets of the shape {values.shape[1:]} for the labels {', '.join(labels)}.")
    if not np.isin(values[~np.isnan(values)], (0, 1)).all():
        raise DataError(f"{where}: a target holds values other than 0, 1 and NaN (unknown).")
    return values, labels
