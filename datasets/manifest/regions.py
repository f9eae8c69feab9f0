"""Where findings are in the images of a manifest: by readers' boxes, or by masks of one's own.

Of each case and label, in this order:

known to be somewhere   boxes of it stand in `boxes.csv` beside the manifest, or `mask_<label>` names a mask (of a
                        manifest with one label also `mask`); the rest of the image is known not to be the finding
known to be nowhere     the label is 0
unknown                 the label is 1 or empty, and nobody has drawn where: left out of training and evaluation
"""

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from .boxes import BOXES, Box, read_boxes
from .tables import Manifest, mask_column

UNKNOWN = 255  # in drawn truth
TARGETS = ("boxes", "masks")
_PROPORTION_PX = 1.5  # by which rounding may make the sides of a mask differ from those of its image


@dataclass(frozen=True, eq=False)
class Regions:
    """What is known of where the findings of N cases are.

    Attributes:
        target: `boxes` or `masks`.
        labels: L names.
        known: (N, L) whether it is known where the finding is, or that it is nowhere.
        drawn: Row and number of a label to its boxes, (K, 4) left, top, right and bottom in shares of the sides, or to
            its mask as `Mask` keeps it; of the findings that are somewhere.
        notes: What was left out or decided, in sentences.
    """

    target: str
    labels: tuple[str, ...]
    known: np.ndarray
    drawn: "dict[tuple[int, int], np.ndarray | Mask]"
    notes: tuple[str, ...] = ()

    def on(self, row: int, height: int, width: int) -> np.ndarray:
        """Return (L, height, width) uint8 of a case: 1 where a finding is, 0 where not, `UNKNOWN` where nobody knows.

        Raises:
            DataError: A mask has other proportions than the image.
        """
        out = np.zeros((len(self.labels), height, width), np.uint8)
        for label, known in enumerate(self.known[row]):
            if not known:
                out[label] = UNKNOWN
            elif (row, label) in self.drawn:
                out[label] = self.of(row, label, height, width)
        return out

    def of(self, row: int, label: int, height: int, width: int) -> np.ndarray:
        """Return (height, width) bool of a finding that is somewhere; see `on`."""
        found = self.drawn[row, label]
        if isinstance(found, Mask):
            return found.at(height, width)
        return boxes_drawn(found, height, width)

    def present(self) -> np.ndarray:
        """Return (N, L) whether it is known where the finding is."""
        return _places(self.drawn, self.known.shape)

    def fingerprint(self) -> str:
        """Return SHA-256 over all that is known."""
        digest = hashlib.sha256(self.known.tobytes())
        for (row, label), found in sorted(self.drawn.items()):
            digest.update(f"{row} {label} ".encode())
            digest.update(found.packed if isinstance(found, Mask) else np.round(found, 6).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Mask:
    """A mask, small.

    Attributes:
        path: Of its file, for messages.
        shape: Rows and columns.
        packed: Its bits, compressed.
    """

    path: Path
    shape: tuple[int, int]
    packed: bytes

    @classmethod
    def of(cls, path: Path, mask: np.ndarray) -> "Mask":
        """Return what keeps a mask (H, W) bool."""
        return cls(path, (mask.shape[0], mask.shape[1]), zlib.compress(np.packbits(mask).tobytes(), 1))

    def whole(self) -> np.ndarray:
        """Return the mask (H, W) bool."""
        bits = np.frombuffer(zlib.decompress(self.packed), np.uint8)
        return np.unpackbits(bits, count=self.shape[0] * self.shape[1]).astype(bool).reshape(self.shape)

    def at(self, height: int, width: int) -> np.ndarray:
        """Return the mask at the size of a copy of its image.

        Raises:
            DataError: The image has other proportions.
        """
        from ..images.masks import fitted

        own = self.shape
        if abs(own[0] * width - own[1] * height) > _PROPORTION_PX * max(*own, height, width):
            raise DataError(
                f"{self.path}: a mask of {own[1]} x {own[0]} px for an image of {width} x {height} px: other "
                "proportions. A mask covers the whole image; export it at the image's own size."
            )
        return fitted(self.whole(), height, width)


def boxes_drawn(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return (height, width) bool: pixels whose middle lies in one of (K, 4) boxes in shares; of each one at least."""
    out = np.zeros((height, width), bool)
    for left, top, right, bottom in np.clip(boxes, 0, 1):
        rows = np.rint(np.array([top, bottom]) * height).astype(int)
        columns = np.rint(np.array([left, right]) * width).astype(int)
        first = min(rows[0], height - 1), min(columns[0], width - 1)
        out[first[0] : max(rows[1], first[0] + 1), first[1] : max(columns[1], first[1] + 1)] = True
    return out


def boxes_around(mask: np.ndarray) -> np.ndarray:
    """Return (K, 4) left, top, right and bottom, in px, of the 8-connected parts of a mask (H, W) bool."""
    from scipy import ndimage

    parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    found = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(parts)]
    return np.array(found, dtype=np.float64).reshape(-1, 4)


def regions_there(manifest: Manifest) -> str:
    """Return which of `TARGETS` lies with a manifest, masks before boxes; empty where neither does."""
    if any(mask_column(manifest.table.columns, manifest.labels, label) for label in manifest.labels):
        return "masks"
    return "boxes" if (manifest.path.parent / BOXES).is_file() else ""


def regions_of(manifest: Manifest, target: str, labels: Sequence[str] | None = None) -> Regions:
    """Read where the findings of a manifest's cases are.

    Args:
        manifest: N cases.
        target: `boxes` or `masks`.
        labels: Those of interest; all by default.

    Raises:
        DataError: There are no boxes or masks, or a file cannot be read.
    """
    assert target in TARGETS
    names = tuple(manifest.labels if labels is None else labels)
    drawn = _boxes(manifest, names) if target == "boxes" else _masks(manifest, names)
    truth = np.column_stack(
        [
            manifest.table[name].to_numpy(np.float64) if name in manifest.labels else np.full(len(manifest), np.nan)
            for name in names
        ]
    )
    empty = {place for place, found in drawn.items() if isinstance(found, Mask) and not found.whole().any()}
    drawn = {place: found for place, found in drawn.items() if place not in empty}
    somewhere, nowhere = _places(drawn, truth.shape), _places(empty, truth.shape) & (truth != 1)
    known = somewhere | nowhere | (truth == 0)
    unknown, against = (truth == 1) & ~known, somewhere & (truth == 0)
    notes = []
    if unknown.any():
        notes.append(
            f"{int(unknown.sum()):,} findings of {int(unknown.any(axis=1).sum()):,} cases are labelled 1 and not "
            "drawn: where they are is unknown, and they are left out"
        )
    if against.any():
        notes.append(f"{int(against.sum()):,} findings are drawn though their label is 0: what is drawn counts")
    if nowhere.any():
        notes.append(f"{int(nowhere.sum()):,} masks are empty: the finding is nowhere in these images")
    return Regions(target, names, known, drawn, tuple(notes))


def _places(places: Iterable[tuple[int, int]], shape: tuple[int, ...]) -> np.ndarray:
    """Return (N, L) bool, true at some places."""
    found = np.zeros(shape, bool)
    for place in places:
        found[place] = True
    return found


def _boxes(manifest: Manifest, labels: tuple[str, ...]) -> "dict[tuple[int, int], np.ndarray | Mask]":
    path = manifest.path.parent / BOXES
    if not path.is_file():
        raise DataError(
            f"{path}: no such file: there are no boxes to learn. `clinvit prepare` writes it beside the manifest, from "
            "ChestX-ray14's BBox_List_2017.csv, or from columns x, y, width, height of a table of one's own."
        )
    rows = {case: row for row, case in enumerate(manifest.table["id"])}
    found: dict[tuple[int, int], list[Box]] = {}
    for box in read_boxes(path, manifest, others=True):
        if box.id in rows and box.label in labels:
            found.setdefault((rows[box.id], labels.index(box.label)), []).append(box)
    return {place: np.array([box.within(1, 1) for box in own]) for place, own in found.items()}


def _masks(manifest: Manifest, labels: tuple[str, ...]) -> "dict[tuple[int, int], np.ndarray | Mask]":
    from ..images.masks import read_mask
    from ..loading.isolation import isolated

    columns = [mask_column(manifest.table.columns, manifest.labels, label) for label in labels]
    if not any(columns):
        first = manifest.labels[0] if manifest.labels else "LABEL"
        raise DataError(
            f"{manifest.path}: no column of masks. Name a file for each case in a column mask_{first} (PNG of the size "
            "of the image, 0 where the finding is not), empty where there is none."
        )
    places = [
        (row, label)
        for label, column in enumerate(columns)
        if column
        for row in np.flatnonzero(manifest.table[column].str.strip() != "")
    ]
    files = [manifest.path.parent / manifest.table[columns[label]].iloc[row].strip() for row, label in places]
    found: dict[tuple[int, int], np.ndarray | Mask] = {}
    for (row, label), file, mask in zip(places, files, isolated(read_mask, files), strict=True):
        if isinstance(mask, DataError):
            raise DataError(f"{manifest.path}: row {row + 2}: {mask}")
        found[int(row), label] = Mask.of(file, mask)
    return found
