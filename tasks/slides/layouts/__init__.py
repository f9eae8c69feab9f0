"""Camelyon16 as downloaded, and slides of one's own with a CSV, read into a manifest's table."""

from pathlib import Path

import pandas as pd

from ....datasets.manifest import layouts
from ....datasets.manifest.layouts import Layout, own_layouts
from ....datasets.slides.reading import SLIDE_SUFFIXES
from ..labels import MEANING
from . import camelyon16, folder

LAYOUTS: dict[str, Layout] = {
    "camelyon16": Layout(
        camelyon16.recognise, camelyon16.read, "training/normal, training/tumor, testing/images (or images)", MEANING
    ),
    "folder": Layout(folder.recognise, folder.read, "slides and one CSV of labels"),
    **{name: layout for name, layout in own_layouts(SLIDE_SUFFIXES).items() if name != "csv"},
}


def recognise(root: str | Path) -> str:
    """The name of the layout in this folder (see `tasks.layouts.recognise`)."""
    return layouts.recognise(LAYOUTS, root)


def to_manifest(root: str | Path, layout: str | None = None, **options: object) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table and the labels of the data set in `root` (see `tasks.layouts.to_manifest`)."""
    return layouts.to_manifest(LAYOUTS, root, layout, **options)
