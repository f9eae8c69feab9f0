"""`clinvit retrieve`: the cases that are most alike a case, and how alike they are."""

from pathlib import Path
from typing import Any

from .options import add_task, begin
from .parser import Parser
from .values import columns

SUMMARY = "find the cases of other patients that are most alike a case, show them, and judge how alike they are"
TASKS = "all"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    add_task(parser)
    parser.add_argument("--data", type=Path, required=True, help="manifest.csv with labels, or its folder")
    parser.add_argument(
        "--vectors", type=Path, required=True,
        help="folder of features.npy and features.csv: of slides by `clinvit pool`, of images and clips by `extract`",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for neighbours.csv, retrieval.json and .html")
    parser.add_argument("-k", type=int, default=5, help="how many neighbours (default: %(default)s)")
    parser.add_argument(
        "--queries", default="test", metavar="SPLIT or IDS", help="a split, or ids with commas (default: %(default)s)"
    )
    parser.add_argument(
        "--library", default="train", metavar="SPLIT", help="the split that is looked through (default: %(default)s)"
    )
    parser.add_argument("--labels", help="labels that are judged (default: all of the manifest)")
    parser.add_argument("--shown", type=int, default=12, help="queries that the page shows (default: %(default)s)")


def run(options) -> None:
    """Find the neighbours; print how alike they are."""
    begin(f"retrieve {options.task.name} from {options.library}", options.data, options.out)
    from ..stages.data import open_manifest
    from ..stages.retrieve import PAGE, Asked, retrieve

    asked = Asked(columns(options.queries) or ("test",), options.library, options.k, options.shown)
    manifest = open_manifest(options.data, columns(options.labels))
    found = retrieve(manifest, options.vectors, options.out, asked, options.task.unit)
    for row in found.judged:
        if row.queries:
            low, high = row.precision.low, row.precision.high
            between = f" ({low:.3f} to {high:.3f})" if low == low else f" ({row.precision.reason})"
            words = f"{row.label}: precision at {options.k} {row.precision.value:.3f}{between}, by chance"
            print(f"{words} {row.chance:.3f}; AUROC of the vote {row.auroc.value:.3f}; {row.queries:,} queries")
    for reason, count in found.left_out.items():
        print(f"note: {count:,} {reason} took no part")
    library = f"{found.library:,} {options.task.unit}s of {options.library}"
    print(f"{options.out / PAGE}: {found.queries:,} queries, {library}")
