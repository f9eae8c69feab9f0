"""`clinvit compare`: two or more models on the same cases, paired."""

from typing import Any

from .evaluate import add_evaluation, report
from .parser import Parser

SUMMARY = "compare two or more models on the same cases, paired"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("a", metavar="[NAME=]A", help="predictions.csv or run folder; compared with each that follows")
    parser.add_argument("others", nargs="+", metavar="[NAME=]B", help="predictions.csv or run folders")
    add_evaluation(parser)
    parser.add_argument(
        "--matched", metavar="RATE",
        help="compare the models where both have this rate too: sensitivity=0.9 or specificity=0.9",
    )  # fmt: skip
    for question, words in (
        ("non-inferiority", "ask whether A is not worse than each B by more than this difference, such as 0.05"),
        ("equivalence", "ask whether A and each B differ by less than this"),
    ):
        parser.add_argument(f"--{question}", type=float, metavar="MARGIN", help=words)
    parser.add_argument(
        "--margin-of", metavar="METRIC",
        help="what the margin is of: auroc, average_precision, sensitivity, specificity, accuracy; of one finding "
        "Effusion:sensitivity (default: auroc)",
    )  # fmt: skip


def run(options) -> None:
    """Compare the tables and write the report."""
    report(options, [options.a, *options.others], "")
