"""`clinvit pool`: one vector of every slide from the features of its tiles."""

from pathlib import Path
from typing import Any

from .extract import say_vectors
from .options import begin
from .parser import Parser

SUMMARY = "make one vector of every slide from the features of its tiles: their mean, or as a trained model pools them"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("--data", type=Path, required=True, help="manifest.csv of the slides, or its folder")
    parser.add_argument("--features", type=Path, required=True, help="folder of tile features (`clinvit extract`)")
    parser.add_argument(
        "--by", default="mean", metavar="POOLING",
        help="mean; a model folder that `finetune slides` made, whose attention weighs the tiles; or the weights of a "
        "slide encoder in a file: FEATHER-like ABMIL of MIL-Lab, CLAM, CHIEF (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True,
        help="folder for features.npy, its rows in features.csv, and a TRIDENT-like <id>.h5 of every slide",
    )  # fmt: skip


def run(options) -> None:
    """Pool the tiles of every slide; say what failed."""
    begin(f"pool tiles by {options.by}", options.data, options.out)
    from ..stages.data import open_manifest
    from ..stages.slides.pool import CASES, FEATURES, pool_slides

    table = pool_slides(open_manifest(options.data, labels=()), options.features, options.out, options.by)
    say_vectors(table, options.out, FEATURES, CASES)
