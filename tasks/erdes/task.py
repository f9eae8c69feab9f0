"""What the command needs of the ocular-ultrasound task: recipes, layouts, the reader, the cascade, the demo."""

from ...datasets.loading.readers import ClipReader as CachedAs
from ...datasets.manifest.tables import Manifest
from ...datasets.quality.check import Findings, check_manifest
from ...datasets.video.clips import read_grey_clip
from .cascade import predict_cascade
from .demo import demo
from .layouts import to_manifest
from .recipes import FINETUNE, PRETRAIN

__all__ = ["FINETUNE", "PRETRAIN", "CachedAs", "check", "demo", "looked_at", "predict_cascade", "to_manifest"]


def check(manifest: Manifest, files: int | None, cache_px: int) -> Findings:
    """Check a manifest and its files (see `check_manifest`)."""
    return check_manifest(manifest, read_grey_clip, files=files, cache_px=cache_px)


def looked_at(manifest: Manifest, cache_px: int) -> CachedAs:
    """The reader for a look at every file."""
    return CachedAs(cache_px)
