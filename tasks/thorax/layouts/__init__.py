"""Chest X-ray sets as they are downloaded, and images of one's own, read into a manifest's table."""

from ....datasets.manifest.layouts import Layout, own_layouts
from ..labels import MEANING
from . import box_list, chestxray14, chexpert, chexpert_plus, covidx, mimic, padchest, rsna, vindr

_OWN = own_layouts("radiograph")
LAYOUTS: dict[str, Layout] = {
    "chestxray14": Layout(
        chestxray14.recognise, chestxray14.read, "Data_Entry_2017.csv or sample_labels.csv", MEANING["chestxray14"]
    ),
    "chexpert": Layout(
        chexpert.recognise, chexpert.read, "train.csv and valid.csv with a column Path", MEANING["chexpert"]
    ),
    "mimic": Layout(mimic.recognise, mimic.read, "mimic-cxr-2.0.0-metadata.csv.gz", MEANING["mimic"]),
    "chexpert_plus": Layout(
        chexpert_plus.recognise, chexpert_plus.read, "df_chexpert_plus*.csv", MEANING["chexpert_plus"]
    ),
    "padchest": Layout(padchest.recognise, padchest.read, padchest.PATTERN, MEANING["padchest"]),
    "vindr": Layout(
        vindr.recognise, vindr.read, "annotations/image_labels_train.csv or VinBigData's train.csv", MEANING["vindr"]
    ),
    "rsna": Layout(rsna.recognise, rsna.read, "stage_2_train_labels.csv", MEANING["rsna"]),
    "covidx": Layout(covidx.recognise, covidx.read, "train_COVIDx*.txt and test_COVIDx*.txt", MEANING["covidx"]),
    **_OWN,
    "csv": box_list.beside_own_table(_OWN["csv"]),
}
