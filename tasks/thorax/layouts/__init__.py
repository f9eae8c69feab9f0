"""Chest X-ray sets as they are downloaded, and images of one's own, read into a manifest's table."""

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
    **own_layouts("radiograph"),
}
