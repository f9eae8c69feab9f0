"""The thorax task: several findings on chest X-rays (Xiao et al., WACV 2023)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ...finetune.features_recipe import EXTRACT
from ...mil.recipe import MULTI_VIEW
from ...stages.task import ImageTask
from .recipes import FINETUNE, PRETRAIN

if TYPE_CHECKING:
    from ...datasets.manifest.layouts import Layout
    from ...stages.dicom.case import Code
    from ...stages.reproduce.table import Table


class Thorax(ImageTask):
    """ChestX-ray14, CheXpert, MIMIC-CXR, COVIDx, and X-rays of one's own."""

    name = "thorax"
    summary = "chest X-rays"
    holds = "radiograph"
    recipes: ClassVar = {"pretrain": PRETRAIN, "finetune": FINETUNE | MULTI_VIEW, "extract": EXTRACT}

    def layouts(self) -> "Mapping[str, Layout]":
        from .layouts import LAYOUTS

        return LAYOUTS

    def tables(self) -> "Mapping[str, Table]":
        from . import literature, tables

        return tables.TABLES | literature.TABLES

    def codes(self) -> "Mapping[str, Code]":
        from .codes import CODES

        return CODES

    def demo(self, out: Path, seed: int) -> object:
        from .demo import demo

        return demo(out, seed)


TASK = Thorax()
