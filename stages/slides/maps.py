"""What a model sees on each slide: scores of tiles, detections, heat maps for people and for QuPath, a page."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...core.files import file_sha256, written_aside
from ...datasets.manifest.tables import Manifest
from ...datasets.slides.places import features_file
from ...datasets.slides.shared_work import SharedWork, slide_file, work_through
from ...engine.run_folder import run_folder

if TYPE_CHECKING:
    from ...datasets.slides.reading import Slide
    from ...datasets.slides.tiles import TileGrid

SCORES, DETECTIONS = "scores", "detections"
# The lowest tile score that is drawn as a region where no validation slide has outlines to choose it on.
REGION_THRESHOLD = 0.5
IMAGE_PX = 1600
_GALLERY_PX = 448  # of the images of single tiles on a slide's page


@dataclass(frozen=True)
class Maps:
    """What is written of each slide beside its page.

    Attributes:
        tiff: Also the heat map as a pyramidal TIFF, to lay over the slide by its scale.
        tile_geojson: Also every tile as a QuPath detection with its score.
        tile_level0_px: Side of a tile in level-0 px, for features of other tools that do not say.
    """

    tiff: bool = False
    tile_geojson: bool = False
    tile_level0_px: int | None = None


@dataclass(frozen=True, eq=False)
class Shown:
    """What is known about a slide besides its pixels.

    Attributes:
        scores: (N,) of its tiles, in 0..1.
        verdict: The prediction in a sentence.
        truth: What the manifest says, in words; may be empty.
        annotation: Outlines; None for none.
    """

    scores: np.ndarray
    verdict: str
    truth: str = ""
    annotation: Path | None = None


def write_maps(
    recipe: Maps, manifest: Manifest, features: Path, shown: Mapping[str, Shown], model: Path, out: Path,
    facts: Mapping[str, str], threshold: float, label: str,
) -> pd.DataFrame:  # fmt: skip
    """Write `out/<id>.html`, `.png`, `.geojson`, `scores/<id>.h5`, `detections/<id>.csv` and `out/status.csv`.

    Args:
        recipe: What else.
        manifest: The slides.
        features: Folder of the features that the scores were made of.
        shown: By slide id; slides without are left out.
        model: Model folder, for provenance.
        out: The folder. What was done is not done again; maps of another model are refused there.
        facts: Lines for every page.
        threshold: Of the tile score, for regions; NaN for none.
        label: What the scores are of.

    Returns:
        The status table.
    """
    table = manifest.table[manifest.table["id"].isin(shown.keys())]
    chosen = Manifest(manifest.path, table.reset_index(drop=True), manifest.labels)
    scales = dict(zip(chosen.table["id"], chosen.microns_per_px(), strict=True))
    inputs = {"model": file_sha256(model / "model.safetensors"), "threshold": f"{threshold:.6g}", "label": label}
    how = "assumed: no validation slide has outlines to choose it on" if np.isnan(threshold) else "chosen on validation"
    facts = {**facts, "threshold of tiles": how}
    with run_folder(out, recipe, inputs, shared=True) as folder:
        work = SharedWork(folder, dict(zip(scales, chosen.files(), strict=True)), ".html")

        def do(slide: str) -> dict:
            file = features_file(features, slide)
            place = work.files[slide], scales[slide], file
            return _write(recipe, *place, shown[slide], folder, slide, facts, threshold, label)

        return work_through(work, do, "heat maps")


def _write(
    recipe: Maps, path: Path, mpp: float | None, features: Path, shown: Shown, out: Path, slide: str,
    facts: Mapping[str, str], threshold: float, label: str,
) -> dict:  # fmt: skip
    from ...core.errors import DataError
    from ...datasets.slides.annotations import read_annotation
    from ...datasets.slides.hdf5 import write_scores
    from ...datasets.slides.reading import open_slide
    from ...eval.localisation.froc import write_detections
    from ...eval.localisation.heat_files import write_geojson, write_heat_tiff, write_tiles_geojson
    from ...eval.localisation.heat_map import score_map
    from ...eval.localisation.overlay import slide_png
    from ...eval.localisation.tiles import DETECTION_RADIUS_UM, detections_from_tiles
    from ...eval.report.slide_page import OVERVIEW_PX, SlideMap, highest_tiles, write_slide_page

    drawn = read_annotation(shown.annotation, label) if shown.annotation else []
    outlines = [ring for each in drawn for ring in each.rings]
    with open_slide(path, mpp) as opened:
        size_px = opened.width_px, opened.height_px
        grid = _tiles(features, opened.mpp, size_px, recipe.tile_level0_px)
        side = grid.tile_level0_px
        if size_px != (grid.width_px, grid.height_px):
            raise DataError(
                f"{path}: {size_px[0]} x {size_px[1]} px, but {features} was made of a slide of {grid.width_px} x "
                f"{grid.height_px} px. Is it the same slide? Extract its features again."
            )
        overview, small = opened.overview(OVERVIEW_PX), opened.overview(IMAGE_PX)
        highest = highest_tiles(shown.scores)
        gallery, unread = _gallery(opened, grid, highest)
    found = score_map(grid.coords, shown.scores, side)
    cut = REGION_THRESHOLD if np.isnan(threshold) else threshold
    detections = detections_from_tiles(
        grid.coords, shown.scores, side, size_px, max(DETECTION_RADIUS_UM / opened.mpp, side)
    )
    write_scores(slide_file(out / SCORES, slide), shown.scores, grid)
    write_detections(slide_file(out / DETECTIONS, slide, ".csv"), detections)
    scale = max(size_px) / max(small.shape)
    title = f"{slide}: {label}"
    image = slide_png(small, found, opened.mpp, downsample=scale, outlines=outlines, title=title)
    with written_aside(slide_file(out, slide, ".png")) as aside:
        aside.write_bytes(image)
    regions = write_geojson(slide_file(out, slide, ".geojson"), found, cut, size_px, label)
    if recipe.tiff:
        write_heat_tiff(slide_file(out, slide, ".tif"), found, size_px, opened.mpp)
    if recipe.tile_geojson:
        write_tiles_geojson(slide_file(out, slide, ".tiles.geojson"), grid.coords, shown.scores, side, label, cut)
    page = SlideMap(
        id=slide, overview=overview, width_px=size_px[0], height_px=size_px[1], mpp=opened.mpp, coords=grid.coords,
        scores=shown.scores, tile_level0_px=side, threshold=cut, verdict=shown.verdict, truth=shown.truth,
        score_name=f"{label} tile score", outlines=outlines, gallery=gallery, facts=facts, quality=grid.quality,
    )  # fmt: skip
    write_slide_page(slide_file(out, slide, ".html"), page)
    return {"tiles": len(shown.scores), "regions": regions, "detections": len(detections), "unread_tiles": unread}


def _tiles(features: Path, mpp: float, size_px: tuple[int, int], tile_level0_px: int | None) -> "TileGrid":
    """Return where the tiles of a file of features lie, read by a process of its own.

    Raises:
        DataError: The file does not say.
    """
    from ...datasets.loading.isolation import read_alone

    read = partial(_placed, mpp=mpp, size_px=size_px, tile_level0_px=tile_level0_px)
    return read_alone(read, features)


def _placed(features: Path, *, mpp: float, size_px: tuple[int, int], tile_level0_px: int | None) -> "TileGrid":
    from ...core.errors import DataError
    from ...datasets.slides.hdf5 import FeatureFile, is_tensor, read_tiles

    placed = False
    if not is_tensor(features):
        with FeatureFile(features) as file:
            placed = file.coords is not None
    if not placed:
        raise DataError(f"{features}: features without coordinates of tiles: there is no map, only a score.")
    return read_tiles(features, mpp, size_px, tile_level0_px)


def _gallery(opened: "Slide", grid: "TileGrid", highest: np.ndarray) -> tuple[dict[int, np.ndarray], int]:
    """Return the images of tiles by number, and how many of them cannot be read: the map is there without them."""
    from ...core.errors import DataError

    images: dict[int, np.ndarray] = {}
    for number, (x, y) in zip(highest.tolist(), grid.coords[highest].tolist(), strict=True):
        with suppress(DataError):
            images[number] = opened.tile(x, y, grid.tile_um, min(grid.tile_level0_px, _GALLERY_PX))
    return images, len(highest) - len(images)
