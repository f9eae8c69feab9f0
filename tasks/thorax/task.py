"""What the command needs of the thorax task: recipes, layouts, the reader, the demo."""

from ...datasets.radiographs import read_radiograph as read
from ...datasets.readers import PictureReader as CachedAs
from .demo import demo
from .layouts import to_manifest
from .recipes import FINETUNE, PRETRAIN

__all__ = ["FINETUNE", "PRETRAIN", "CachedAs", "demo", "read", "to_manifest"]
