"""The neutral task for images: whatever findings or classes a table or a folder tree names."""

from typing import ClassVar

from ...stages.task import ImageTask
from .recipes import FINETUNE, PRETRAIN


class Images(ImageTask):
    """Images of one's own, with one channel or three."""

    name = "images"
    summary = "any images"
    channels = 3
    recipes: ClassVar = {"pretrain": PRETRAIN, "finetune": FINETUNE}


TASK = Images()
