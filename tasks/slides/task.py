"""What the command needs of the slides task: recipes, layouts, checks, tiles, features, prediction, the demo."""

from ...datasets.manifest.tables import Manifest
from ...datasets.quality.check import Findings
from ...datasets.slides.check import OverviewReader, check_slides
from ...stages.slides.predict import Request, predict_slides
from ...stages.slides.tile import tile_slides
from .demo import demo
from .layouts import to_manifest
from .recipes import EXTRACT, FINETUNE, PRETRAIN, TILE

__all__ = [
    "EXTRACT",
    "FINETUNE",
    "PRETRAIN",
    "TILE",
    "Request",
    "check",
    "demo",
    "looked_at",
    "predict_slides",
    "tile_slides",
    "to_manifest",
]


def check(manifest: Manifest, files: int | None, cache_px: int) -> Findings:
    """Check a manifest and open its slides; no pixel of a slide is ever cached."""
    return check_slides(manifest, files)


def looked_at(manifest: Manifest, cache_px: int) -> OverviewReader:
    """The reader for a look at every slide."""
    return OverviewReader(dict(zip(manifest.files(), manifest.microns_per_px())))
