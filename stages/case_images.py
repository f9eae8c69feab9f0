"""What pages show of single cases: the image, frames of the clip, or the slide small with its most attended tiles."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..core.errors import DataError
from ..datasets.manifest.tables import Manifest

SLIDE_PX, TILE_PX = 320, 104
TOP = 3  # tiles of a slide that are shown


def case_images(manifest: Manifest) -> Callable[[str], np.ndarray | None]:
    """Return what the report shows of a case: the image, or four frames of the clip, two by two."""
    from ..datasets.images.radiographs import read_radiograph
    from ..datasets.video.clips import open_clip

    files = dict(zip(manifest.table["id"], manifest.files()))

    def image(case: str) -> np.ndarray | None:
        if case not in files:
            return None
        try:
            return read_radiograph(files[case], shorter_px=320)
        except DataError:  # no image
            return four_frames(files[case])

    def four_frames(file: Path) -> np.ndarray | None:
        try:
            with open_clip(file, shorter_px=160) as clip:
                one, two, three, four = clip[((np.arange(4) + 0.5) * len(clip) / 4).astype(int)]
        except DataError:
            return None
        return np.block([[one, two], [three, four]]) / np.float32(255)

    return image


def slide_images(manifest: Manifest, vectors: Path, cases: Sequence[str]) -> dict[str, np.ndarray | None]:
    """Return of each slide its overview above its most attended tiles, read by processes of their own.

    Args:
        manifest: The slides.
        vectors: Folder of `<id>.h5` with `coords` and `attention` (`clinvit pool`).
        cases: Ids.

    Returns:
        (H, W, 3) uint8 by id; None for a slide that cannot be read. Without attention, or where every tile has the
        same, there are no tiles.
    """
    from ..core.platform import usable_cores
    from ..datasets.loading.isolation import isolated
    from ..datasets.loading.limits import SLIDE_SECONDS
    from ..datasets.slides.shared_work import slide_file

    rows = manifest.table.set_index("id").index.get_indexer(list(cases))
    files, scales = manifest.files(), manifest.microns_per_px()
    known = {files[row]: (scales[row], slide_file(vectors, case)) for case, row in zip(cases, rows, strict=True)}
    read = partial(slide_image, known=known)
    found = isolated(read, [files[row] for row in rows], usable_cores(), time=SLIDE_SECONDS)
    return {case: None if isinstance(image, DataError) else image for case, image in zip(cases, found, strict=True)}


def slide_image(path: Path, known: dict[Path, tuple[float | None, Path]]) -> np.ndarray:
    """Return a slide small, (SLIDE_PX, SLIDE_PX, 3) uint8 on white, and below it its most attended tiles in a row.

    Args:
        path: The slide.
        known: By slide its microns per px and the file of its vector.

    Raises:
        DataError: The slide or the file cannot be read.
    """
    from ..datasets.slides.reading import open_slide

    mpp, vector = known[path]
    with open_slide(path, mpp) as slide:
        small = slide.overview(SLIDE_PX)
        shown = np.full((SLIDE_PX, SLIDE_PX, 3), 255, np.uint8)
        top, left = (SLIDE_PX - small.shape[0]) // 2, (SLIDE_PX - small.shape[1]) // 2
        shown[top : top + small.shape[0], left : left + small.shape[1]] = small
        tiles = _top_tiles(slide, vector)
    if not tiles:
        return shown
    row = np.full((TILE_PX, SLIDE_PX, 3), 255, np.uint8)
    step = (SLIDE_PX - TILE_PX) // max(1, TOP - 1)
    for place, tile in enumerate(tiles):
        row[:, place * step : place * step + TILE_PX] = tile[:, : SLIDE_PX - place * step]
    return np.vstack([shown, row])


def _top_tiles(slide, vector: Path) -> list[np.ndarray]:
    from ..datasets.slides.hdf5 import read_attention, read_tiles

    attention = read_attention(vector) if vector.is_file() else None
    if attention is None or np.ptp(attention) <= 1e-6 * attention.max():
        return []
    grid = read_tiles(vector, slide.mpp, (slide.width_px, slide.height_px))
    order = np.argsort(-attention, kind="stable")[:TOP]
    return [slide.tile(x, y, grid.tile_um, TILE_PX) for x, y in grid.coords[order].tolist()]
