"""`clinvit triage`: the worklist of a reader, the urgent studies first."""

from pathlib import Path
from typing import Any

from .parser import Parser
from .values import columns, named_path

SUMMARY = "sort studies by urgency: called positive first, called negative last, the reader decides between"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("predictions", metavar="PREDICTIONS", help="predictions.csv of the new studies")
    parser.add_argument(
        "--reference", required=True, help="predictions.csv (or run folder) of the same model on cases with truth"
    )
    parser.add_argument(
        "--promise", required=True,
        help="what must hold of studies that are called: ppv=0.9,npv=0.99 hold with a probability of 0.95, or of "
        "1 - delta with ,delta=0.1; as of `evaluate --triage`",
    )  # fmt: skip
    parser.add_argument("--urgent", metavar="LABELS", help="labels, the most urgent first (default: all)")
    parser.add_argument("--split", default="val", help="of --reference, which cases choose (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("worklist.csv"), help="CSV to write (default: %(default)s)")


def run(options) -> None:
    """Write the worklist, and print how it begins."""
    from ..stages.triage import triage_stage

    new, reference = named_path(options.predictions)[1], named_path(options.reference)[1]
    print(f"triage: {new} by {reference} (split {options.split}) -> {options.out}")
    found, notes = triage_stage(
        new, reference, options.promise, options.out, columns(options.urgent) or (), options.split
    )
    counts = found["call"].value_counts()
    failed = int((found["failed"] > 0).sum())
    print(
        f"{options.out}: {len(found):,} studies: {counts.get('positive', 0):,} called positive, "
        f"{counts.get('reader', 0):,} left to the reader, {counts.get('negative', 0):,} called negative"
        + (f"; {failed:,} with an image that could not be scored" if failed else "")
    )
    for row in found.head(5).to_dict("records"):
        print(f"  {row['place']}. {row['study']}: {row['call']} ({row['because']})")
    for note in notes:
        print(f"note: {note}")
