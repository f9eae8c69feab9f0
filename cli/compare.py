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


def run(options) -> None:
    """Compare the tables and write the report."""
    report(options, [options.a, *options.others], "")
