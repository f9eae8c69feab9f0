"""The slides task: whole slides from slide labels (Self-ViT-MIL; Gul et al., SPIE 2022)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ...stages.task import SlideTask
from .recipes import EXTRACT, FINETUNE, PRETRAIN, TILE

if TYPE_CHECKING:
    from ...datasets.manifest.layouts import Layout
    from ...stages.reproduce.table import Table


class Slides(SlideTask):
    """Camelyon16, and slides of one's own with a CSV of labels."""

    name = "slides"
    summary = "whole slides"
    recipes: ClassVar = {"tile": TILE, "pretrain": PRETRAIN, "extract": EXTRACT, "finetune": FINETUNE}

    def layouts(self) -> "Mapping[str, Layout]":
        from .layouts import LAYOUTS

        return LAYOUTS

    def tables(self) -> "Mapping[str, Table]":
        from .tables import TABLES

        return TABLES

    def demo(self, out: Path, seed: int) -> object:
        from .demo import demo

        return demo(out, seed)


TASK = Slides()
