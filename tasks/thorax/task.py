"""What the command needs of the thorax task: recipes, layouts, the reader, the demo."""

from ...datasets.images.radiographs import read_grey
from ...datasets.loading.readers import ImageReader as CachedAs
from ...datasets.manifest.tables import Manifest
from ...datasets.quality.check import Findings, check_manifest
from .demo import demo
from .layouts import to_manifest
from .recipes import FINETUNE, PRETRAIN

__all__ = ["FINETUNE", "PRETRAIN", "CachedAs", "check", "demo", "looked_at", "to_manifest"]


def check(manifest: Manifest, files: int | None, cache_px: int) -> Findings:
    """Check a manifest and its files (see `check_manifest`)."""
    return check_manifest(manifest, read_grey, files=files, cache_px=cache_px)


def looked_at(manifest: Manifest, cache_px: int) -> CachedAs:
    """The reader for a look at every file."""
    return CachedAs(cache_px)
