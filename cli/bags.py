"""`clinvit bags`: aggregators on a classical set of bags, cross-validated."""

from pathlib import Path
from typing import Any

from ..core.errors import UserError
from .parser import Parser

SUMMARY = "cross-validate aggregators on a classical set of bags, such as MUSK"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "table", type=Path, metavar="TABLE",
        help="CSV (or .csv.gz) with one instance a line, or lines `instance:bag:label column:value ...`",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder; what is done there is not done again")
    parser.add_argument("--aggregators", help="names, separated by commas (default: all)")
    parser.add_argument(
        "--label", default="0", help="column of the bag's label, name or number (-1: the last; default: %(default)s)"
    )
    parser.add_argument("--bag", default="1", help="column of the bag's id, name or number (default: %(default)s)")
    parser.add_argument("--folds", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the folds and of the training")


def run(options) -> None:
    """Cross-validate, and print the table."""
    from ..mil.cross_validation import run_protocol
    from ..mil.recipe import AGGREGATORS

    chosen = options.aggregators.split(",") if options.aggregators else AGGREGATORS
    for name in chosen:
        if name not in AGGREGATORS:
            raise UserError(f"aggregator {name!r}: one of {', '.join(AGGREGATORS)}.")
    label, bag = (int(text) if text.removeprefix("-").isdigit() else text for text in (options.label, options.bag))
    run_protocol(
        options.table, options.out, chosen, label=label, bag=bag, folds=options.folds, repeats=options.repeats,
        seed=options.seed,
    )  # fmt: skip
    print((options.out / "table.md").read_text(encoding="utf-8"))
