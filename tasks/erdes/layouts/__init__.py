"""ERDES as downloaded, its official lists, general video lists and clips of one's own, read into a manifest's table."""

from pathlib import Path

import pandas as pd

from ....datasets.manifest import layouts
from ....datasets.manifest.layouts import Layout, own_layouts
from ....datasets.manifest.video_lists import is_video_lists, read_video_lists
from ....datasets.video.clips import CLIP_SUFFIXES
from . import official, tree

LAYOUTS: dict[str, Layout] = {
    "erdes": Layout(tree.recognise, tree.read, "folders Non_Retinal_Detachment and Retinal_Detachment"),
    "erdes_lists": Layout(official.recognise, official.read, "folders such as non_rd_vs_rd with train.csv"),
    "list": Layout(is_video_lists, read_video_lists, "train.csv with lines `path label`"),
    **own_layouts(CLIP_SUFFIXES),
}


def recognise(root: str | Path) -> str:
    """The name of the layout in this folder (see `tasks.layouts.recognise`)."""
    return layouts.recognise(LAYOUTS, root)


def to_manifest(root: str | Path, layout: str | None = None, **options: object) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table and the labels of the data set in `root` (see `tasks.layouts.to_manifest`)."""
    return layouts.to_manifest(LAYOUTS, root, layout, **options)
