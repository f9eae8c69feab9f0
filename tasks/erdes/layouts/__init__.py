"""ERDES as downloaded, its official lists, and clips of one's own, read into a manifest's table."""

from ....datasets.manifest.layouts import Layout, own_layouts
from . import official, tree

LAYOUTS: dict[str, Layout] = {
    "erdes": Layout(tree.recognise, tree.read, "folders Non_Retinal_Detachment and Retinal_Detachment"),
    "erdes_lists": Layout(official.recognise, official.read, "folders such as non_rd_vs_rd with train.csv"),
    **own_layouts("clip"),
}
