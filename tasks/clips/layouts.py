"""Clips of one's own, and lists of general video sets (Kinetics, Something-Something)."""

from ...datasets.manifest.layouts import Layout, own_layouts
from ...datasets.manifest.video_lists import is_video_lists, read_video_lists

LAYOUTS: dict[str, Layout] = {
    "list": Layout(is_video_lists, read_video_lists, "train.csv with lines `path label`"),
    **own_layouts("clip"),
}
