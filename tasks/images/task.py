"""The neutral task for images: whatever findings or classes a table or a folder tree names."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ...finetune.features_recipe import EXTRACT
from ...mil.recipe import MULTI_VIEW
from ...stages.task import ImageTask
from .recipes import FINETUNE, PRETRAIN

if TYPE_CHECKING:
    from ...stages.reproduce.table import Table


class Images(ImageTask):
    """Images of one's own, with one channel or three."""

    name = "images"
    summary = "any images"
    channels = 3
    recipes: ClassVar = {"pretrain": PRETRAIN, "finetune": FINETUNE | MULTI_VIEW, "extract": EXTRACT}

    def tables(self) -> "Mapping[str, Table]":
        from .tables import TABLES

        return TABLES


TASK = Images()
