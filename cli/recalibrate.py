"""`clinvit recalibrate`: a copy of a model whose scores are calibrated on a new site's cases."""

from pathlib import Path
from typing import Any

from .parser import Parser

SUMMARY = "calibrate a copy of a model on the cases of a new site"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="model folder; it stays as it is")
    parser.add_argument(
        "data", type=Path, metavar="PREDICTIONS|MANIFEST",
        help="this model's predictions of the site's cases with known truth, or the manifest, which is predicted first",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder of the copy; it must not exist")
    parser.add_argument(
        "--method", choices=["platt", "intercept", "temperature"],
        help="slope and intercept, the intercept alone (for few cases), or one number (default: platt; temperature "
        "where classes exclude each other)",
    )  # fmt: skip
    parser.add_argument("--split", help="of the cases (default: val where there, else all)")


def run(options) -> None:
    """Write the copy, and say what is done to the scores of each label."""
    from ..stages.recalibrate import recalibrate_stage

    print(f"recalibrate: {options.model} on {options.data} -> {options.out}")
    found = recalibrate_stage(options.model, options.data, options.out, options.method, options.split)
    for label, own in found.items():
        if own.method == "none":
            print(f"{label}: scores stay as they are ({own.reason})")
        else:
            print(f"{label}: logit × {own.slope:.3g} {own.intercept:+.3g}, on {own.cases:,} cases ({own.split})")
    print(
        f"{options.out}: the copy. Judge it on cases that it was not calibrated on: clinvit predict TASK --model "
        f"{options.out}"
    )
