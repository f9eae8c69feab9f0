"""The neutral task for clips: whatever classes or findings a table, a folder tree or a list names."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ...finetune.features_recipe import EXTRACT
from ...mil.recipe import MULTI_VIEW
from ...stages.task import ClipTask
from . import recipes, videomae_v2

if TYPE_CHECKING:
    from ...datasets.manifest.layouts import Layout
    from ...stages.reproduce.table import Table


class Clips(ClipTask):
    """Clips of one's own, Kinetics and the like."""

    name = "clips"
    summary = "any clips"
    channels = 3
    recipes: ClassVar = {
        "pretrain": recipes.PRETRAIN | videomae_v2.PRETRAIN,
        "finetune": recipes.FINETUNE | videomae_v2.FINETUNE | MULTI_VIEW,
        "extract": EXTRACT,
    }

    def layouts(self) -> "Mapping[str, Layout]":
        from .layouts import LAYOUTS

        return LAYOUTS

    def tables(self) -> "Mapping[str, Table]":
        from .tables import TABLES

        return TABLES


TASK = Clips()
