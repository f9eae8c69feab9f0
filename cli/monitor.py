"""`clinvit monitor`: months of predictions held against the contract of a deployed model."""

from pathlib import Path
from typing import Any

from .parser import Parser
from .values import named_path

SUMMARY = "hold a deployed model's predictions against its contract: in bounds, out of bounds since when, too few cases"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("contract", type=Path, metavar="CONTRACT.yaml", help="written by `clinvit contract`")
    parser.add_argument(
        "predictions", nargs="+", metavar="PREDICTIONS",
        help="all predictions.csv (or run folders) since the model was deployed, in the order of time; truth in "
        "y_<label> as it comes in; columns `date` and `truth_date` order the rows where they are there",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("watch"), help="folder to write (default: %(default)s)")


def run(options) -> None:
    """Print the verdict first, then what is out of bounds."""
    from ..stages.monitor import monitor_stage

    tables = [named_path(word)[1] for word in options.predictions]
    line, found = monitor_stage(options.contract, tables, options.out)
    print(f"verdict: {line}")
    lines = [*found["sentences"][1:], *(f"note: {text}" for text in found["notes"]), options.out / "monitor.html"]
    print(*lines, sep="\n")
