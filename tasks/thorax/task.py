"""What the command needs of the thorax task: recipes, layouts, the meaning of a 1, the reader, the demo."""

from ...datasets.radiographs import read_radiograph as read
from .demo import demo
from .labels import MEANING
from .layouts import LAYOUTS, to_manifest
from .recipes import FINETUNE, PRETRAIN

__all__ = ["FINETUNE", "LAYOUTS", "MEANING", "PRETRAIN", "UNIT", "demo", "read", "to_manifest"]

UNIT = "picture"
