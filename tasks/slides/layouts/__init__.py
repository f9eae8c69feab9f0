"""Camelyon16 as downloaded, and slides of one's own with a CSV, read into a manifest's table."""

from ....datasets.manifest.layouts import Layout, own_layouts
from ..labels import MEANING
from . import camelyon16, folder

LAYOUTS: dict[str, Layout] = {
    "camelyon16": Layout(
        camelyon16.recognise, camelyon16.read, "training/normal, training/tumor, testing/images (or images)", MEANING
    ),
    "folder": Layout(folder.recognise, folder.read, "slides and one CSV of labels"),
    **{name: layout for name, layout in own_layouts("slide").items() if name != "csv"},
}
