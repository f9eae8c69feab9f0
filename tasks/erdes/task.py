"""What the command needs of the ocular-ultrasound task: recipes, layouts, the reader, the cascade, the demo."""

from ...datasets.clips import read_clip as read
from ...datasets.readers import ClipReader as CachedAs
from .cascade import predict_cascade
from .demo import demo
from .layouts import to_manifest
from .recipes import FINETUNE, PRETRAIN

__all__ = ["FINETUNE", "PRETRAIN", "CachedAs", "demo", "predict_cascade", "read", "to_manifest"]
