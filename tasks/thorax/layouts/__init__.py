"""Chest X-ray sets as they are downloaded, and images of one's own, read into a manifest's table."""

from pathlib import Path

import pandas as pd

from ....datasets.images.radiographs import RADIOGRAPH_SUFFIXES
from ....datasets.manifest import layouts
from ....datasets.manifest.layouts import Layout, own_layouts
from ..labels import MEANING
from . import chestxray14, chexpert, covidx, mimic

LAYOUTS: dict[str, Layout] = {
    "chestxray14": Layout(chestxray14.recognise, chestxray14.read, "Data_Entry_2017.csv", MEANING["chestxray14"]),
    "chexpert": Layout(
        chexpert.recognise, chexpert.read, "train.csv and valid.csv with a column Path", MEANING["chexpert"]
    ),
    "mimic": Layout(mimic.recognise, mimic.read, "mimic-cxr-2.0.0-metadata.csv.gz", MEANING["mimic"]),
    "covidx": Layout(covidx.recognise, covidx.read, "train_COVIDx*.txt and test_COVIDx*.txt", MEANING["covidx"]),
    **own_layouts(RADIOGRAPH_SUFFIXES),
}


def recognise(root: str | Path) -> str:
    """The name of the layout in this folder (see `tasks.layouts.recognise`)."""
    return layouts.recognise(LAYOUTS, root)


def to_manifest(root: str | Path, layout: str | None = None, **options: object) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table and the labels of the data set in `root` (see `tasks.layouts.to_manifest`)."""
    return layouts.to_manifest(LAYOUTS, root, layout, **options)
