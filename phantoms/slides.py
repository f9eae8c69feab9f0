"""Invented slides as pyramidal TIFF with XML outlines: singly, as a small Camelyon16, or as a folder with a CSV."""

import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd

from ..core.errors import UserError
from ..core.extras import require
from ..core.files import write_text, written_aside
from ..datasets.slides.outlines import Outline, write_outlines
from .histology import BLOCK_PX, Histology

TILE_PX = 256
SMALLEST_LEVEL_PX = 512
JPEG_QUALITY = 85
SIDE_STEP_PX = 64  # sides are multiples, so that halves stay whole
PEN_SHARE = 0.25  # of the slides
TUMOUR_SHARE = 0.4  # of the test slides; 49 of 129 in the real set


class _Slide(NamedTuple):
    """One slide of a set: where it goes (without suffix), whether it has tumour, and the seed of all that is random."""

    place: str
    tumour: bool
    seed: tuple[int, ...]
    has_scale: bool


def write_pyramid(path: str | Path, strips: Iterable[np.ndarray], *, mpp: float | None) -> None:
    """Write a pyramidal TIFF of JPEG tiles, as Camelyon16 has them, atomically; each level has half the size.

    Memory holds one strip and the compressed tiles.

    Args:
        path: The file.
        strips: The image from top to bottom: (BLOCK_PX, W, 3) uint8 each, the last one perhaps lower.
        mpp: Microns per pixel, written as resolution; None writes none.
    """
    tifffile = require("tifffile", "slides", path)

    levels: list[_Level] = [_Level()]
    for strip in strips:
        levels[0].add(strip, levels)
    levels[0].finish(levels)
    while len(levels) > 1 and max(levels[-2].shape) <= SMALLEST_LEVEL_PX:
        levels.pop()
    with written_aside(path) as aside:
        with tifffile.TiffWriter(aside, bigtiff=sum(map(_Level.size, levels)) > 2**31) as file:
            for number, level in enumerate(levels):
                scale: dict[str, Any] = {}
                if mpp is not None:
                    scale = {"resolution": (1e4 / (mpp * 2**number),) * 2, "resolutionunit": "CENTIMETER"}
                file.write(
                    iter(level.tiles), shape=(*level.shape, 3), dtype=np.uint8, tile=(TILE_PX, TILE_PX),
                    photometric="ycbcr", compression="deflate", predictor=False, subfiletype=int(number > 0),
                    metadata=None, software="clinvit phantoms", **scale,
                )  # fmt: skip
        # tifffile compresses to JPEG only with a further package; it takes ready tiles under another name.
        with tifffile.TiffFile(aside, mode="r+b") as file:
            for page in file.pages:
                page.tags["Compression"].overwrite(int(tifffile.COMPRESSION.JPEG))
                page.tags["YCbCrSubSampling"].overwrite((2, 2))


def write_camelyon16(
    root: str | Path,
    *,
    normal: int = 8,
    tumour: int = 8,
    test: int = 6,
    seed: int = 0,
    size_px: tuple[int, int] = (4000, 6000),
    mpp: float = 0.5,
    mimics: bool = False,
    test_tumour: float = TUMOUR_SHARE,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a small Camelyon16 tree as it is downloaded and unpacked.

    `training/normal/normal_001.tif`, `training/tumor/tumor_001.tif`, `testing/images/test_001.tif`,
    `lesion_annotations.zip` and the folder of that name in `training` and `testing`, and `testing/reference.csv`
    without a header. Half of the slides are stained and scanned by one laboratory, half by another; a quarter has a
    pen mark; the last normal slide says nothing of its scale. Files that exist are written again; the same arguments
    give the same pixels.

    Args:
        root: The folder that is to hold `training` and `testing`.
        normal: Number of slides without tumour for training.
        tumour: Number of those with tumour.
        test: Number of slides for testing.
        seed: Everything random follows from it; a slide does not depend on how many there are.
        size_px: Shortest and longest side.
        mpp: Microns per pixel. The real slides have 0.23 to 0.25.
        mimics: All slides have benign nests too, of the tumour's colour and density: only the nuclei tell them apart.
        test_tumour: Share of the slides for testing that have tumour.
        progress: Called with (slides done, slides in all).

    Returns:
        `root`.

    Raises:
        UserError: No slide, or sides that are none.
    """
    root = Path(root)
    with_tumour = _some(test, test_tumour)
    slides = [
        *(_Slide(f"training/normal/normal_{k:03d}", False, (seed, 0, k), k != normal) for k in range(1, normal + 1)),
        *(_Slide(f"training/tumor/tumor_{k:03d}", True, (seed, 1, k), True) for k in range(1, tumour + 1)),
        *(_Slide(f"testing/images/test_{k:03d}", k in with_tumour, (seed, 2, k), True) for k in range(1, test + 1)),
    ]
    for slide, phantom in _drawn(root, slides, size_px, mpp, progress, mimics):
        if slide.tumour:
            part, _, name = slide.place.split("/")
            write_outlines(root / part / "lesion_annotations" / f"{name}.xml", outlines_of(phantom))
    for part in ("training", "testing"):
        _zip_annotations(root / part)
    lines = [f"test_{k:03d},{'Tumor' if k in with_tumour else 'Normal'},None,None\n" for k in range(1, test + 1)]
    write_text(root / "testing" / "reference.csv", "".join(lines))
    return root


def write_slide_folder(
    root: str | Path,
    *,
    slides: int = 8,
    seed: int = 0,
    size_px: tuple[int, int] = (2000, 3000),
    mpp: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a flat folder of slides, half of them with tumour, and `labels.csv`.

    The table has `path,patient,tumor,mpp,annotation`: two slides per patient, the scale for the slides (every third)
    whose file has none, and the outlines (`case_002.xml`) of those with tumour.

    Args:
        root: The folder.
        slides: How many.
        seed: As in `write_camelyon16`, as are the others.
        size_px: Shortest and longest side.
        mpp: Microns per pixel.
        progress: Called with (slides done, slides in all).

    Returns:
        `root`.

    Raises:
        UserError: No slide, or sides that are none.
    """
    root = Path(root)
    listed = [_Slide(f"case_{k:03d}", k % 2 == 0, (seed, 3, k), k % 3 != 0) for k in range(1, slides + 1)]
    rows = []
    for number, (slide, phantom) in enumerate(_drawn(root, listed, size_px, mpp, progress)):
        annotation = f"{slide.place}.xml" if slide.tumour else ""
        if annotation:
            write_outlines(root / annotation, outlines_of(phantom))
        scale = "" if slide.has_scale else mpp
        rows.append([f"{slide.place}.tif", f"patient_{number // 2 + 1:02d}", int(slide.tumour), scale, annotation])
    table = pd.DataFrame(rows, columns=["path", "patient", "tumor", "mpp", "annotation"])
    write_text(root / "labels.csv", table.to_csv(index=False, lineterminator="\n"))
    return root


def outlines_of(phantom: Histology) -> list[Outline]:
    """Return the tumour of a phantom as a pathologist of Camelyon16 would have drawn it.

    Every third region is in group _1.
    """
    found = [
        Outline(points, "_1" if number % 3 == 2 else "_0", f"Annotation {number}", False)
        for number, points in enumerate(phantom.tumour)
    ]
    return found + [
        Outline(points, "_2", f"Annotation {number}", True)
        for number, points in enumerate(phantom.spared, start=len(found))
    ]


def _drawn(root, slides, size_px, mpp, progress, mimics=False) -> Iterator[tuple[_Slide, Histology]]:
    """Write the slides one after the other; the outlines are left to the caller."""
    if not slides or not 0 < size_px[0] <= size_px[1]:
        raise UserError(f"{len(slides)} slides of {size_px} px: give one at least, and the shortest and longest side.")
    for number, slide in enumerate(slides):
        rng = np.random.default_rng(slide.seed)
        width, height = (
            int(side) // SIDE_STEP_PX * SIDE_STEP_PX for side in rng.integers(size_px[0], size_px[1] + 1, 2)
        )
        centre, pen, regions = int(rng.integers(2)), rng.random() < PEN_SHARE, int(rng.integers(1, 4))
        phantom = Histology(
            width, height, seed=int(rng.integers(2**31)), mpp=mpp,
            tumours=regions if slide.tumour else 0, centre=centre, pen=pen, mimics=mimics,
        )  # fmt: skip
        path = root / f"{slide.place}.tif"
        write_pyramid(path, phantom.strips(), mpp=mpp if slide.has_scale else None)
        yield slide, phantom
        if progress is not None:
            progress(number + 1, len(slides))


def _some(count: int, share: float) -> frozenset[int]:
    """Return this share of 1..count, spread evenly."""
    return frozenset(k for k in range(1, count + 1) if int(k * share + 0.5) > int((k - 1) * share + 0.5))


def _zip_annotations(folder: Path) -> None:
    with written_aside(folder / "lesion_annotations.zip") as aside, zipfile.ZipFile(aside, "w") as packed:
        for path in sorted((folder / "lesion_annotations").glob("*.xml")):
            packed.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)


class _Level:
    """One level of a pyramid: rows come in at the top, tiles pile up, and half-sized rows go to the next level."""

    def __init__(self):
        self.shape = (0, 0)
        self.tiles: list[bytes] = []
        self._waiting: list[np.ndarray] = []

    def size(self) -> int:
        """Return the bytes of all tiles."""
        return sum(map(len, self.tiles))

    def add(self, rows: np.ndarray, levels: "list[_Level]") -> None:
        """Take (h, W, 3) rows; h is BLOCK_PX, or half of it, or less at the bottom of the slide."""
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= BLOCK_PX:
            self._flush(levels)

    def finish(self, levels: "list[_Level]") -> None:
        """Finish: there are no more rows, here and hence below."""
        if self._waiting:
            self._flush(levels)
        below = levels.index(self) + 1
        if below < len(levels):
            levels[below].finish(levels)

    def _flush(self, levels: "list[_Level]") -> None:

        rows = np.vstack(self._waiting)
        self._waiting = []
        self.shape = (self.shape[0] + len(rows), rows.shape[1])
        self.tiles += map(_jpeg, _tiles(rows))
        height, width = len(rows) // 2, rows.shape[1] // 2
        if min(height, width) == 0 or rows.shape[1] <= SMALLEST_LEVEL_PX // 2:
            return
        below = levels.index(self) + 1
        if below == len(levels):
            levels.append(_Level())
        levels[below].add(cv2.resize(rows, (width, height), interpolation=cv2.INTER_AREA), levels)


def _tiles(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Return (TILE_PX, TILE_PX, 3) pieces, row by row; what sticks out is filled with the last pixels."""
    height, width = rows.shape[:2]
    rows = np.pad(rows, ((0, -height % TILE_PX), (0, -width % TILE_PX), (0, 0)), mode="edge")
    for top in range(0, height, TILE_PX):
        for left in range(0, width, TILE_PX):
            yield rows[top : top + TILE_PX, left : left + TILE_PX]


def _jpeg(tile: np.ndarray) -> bytes:
    done, data = cv2.imencode(".jpg", tile[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done, "OpenCV refused an 8-bit RGB tile"
    return data.tobytes()
