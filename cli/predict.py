"""`clinvit predict`: a row with scores per file; a file that fails is a row with its reason."""

import sys
from pathlib import Path
from typing import Any

from ..core.errors import RunError, UserError
from .options import add_task, begin
from .parser import Parser

SUMMARY = "predict files; a file that fails is a row with its reason"
TASKS = "all"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    add_task(parser)
    inputs = parser.add_argument(
        "inputs", nargs="+", default=[], metavar="INPUT", help="files, folders, globs, or one manifest CSV"
    )
    inputs.required = False  # not of a PACS; `*` would not find inputs behind options
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument(
        "--out", type=Path, default=Path("predictions.csv"),
        help="table, .csv or .jsonl (default: %(default)s); with --dicom also a folder",
    )  # fmt: skip
    parser.add_argument(
        "--dicom", metavar="KINDS",
        help="also write results of DICOM files for a PACS: sr (report), seg (regions), pm (heat maps), sc (image with "
        "a heat map), pdf; such as sr,sc. They hold the patient's name",
    )  # fmt: skip
    parser.add_argument(
        "--audit", type=Path, metavar="FILE", advanced=True,
        help="log to which is added who asked when for which cases (hashed) of which model; `clinvit verify` checks it",
    )  # fmt: skip
    if task is not None:
        task.add_arguments("predict", parser)


def run(options) -> None:
    """Predict, and print how many were requested, went well and failed.

    Raises:
        RunError: Every case failed.
    """
    inputs, web = options.inputs, getattr(options, "dicomweb", None)
    if not inputs and web is None:
        raise UserError("INPUT is missing: files, folders, globs, or one manifest CSV (or --dicomweb URL).")
    if web is not None:
        from ..stages.pacs.identity import checked_url

        inputs = [checked_url(web), *inputs]  # before anything repeats it
    if options.dicom is not None:
        from ..stages.dicom.case import checked_kinds

        options.dicom = checked_kinds(options.dicom.split(","))
        if options.out.suffix.lower() not in (".csv", ".jsonl"):
            options.out = options.out / "predictions.csv"
    listed = Path(inputs[0]) if len(inputs) == 1 and inputs[0].lower().endswith(".csv") else None
    about = "" if listed else f" on {', '.join(inputs[:3])}{' ...' if len(inputs) > 3 else ''}"
    begin(f"predict {options.task.name} with {options.model}{about}", listed, options.out)
    table = options.task.predict(options)
    if table is None:
        return
    failed = table[table["status"] == "failed"]
    for _, row in failed.head(20).iterrows():
        print(f"failed: {row['reason']}", file=sys.stderr)
    print(f"{options.out}: {len(table)} requested = {len(table) - len(failed)} ok + {len(failed)} failed")
    if "warning" in table and len(warned := table[table["warning"].fillna("") != ""]):
        print(
            f"warning: {len(warned):,} scored case{'s' * (len(warned) != 1)}, see the column `warning`; first: "
            f"{warned['id'].iloc[0]} {warned['warning'].iloc[0]}",
            file=sys.stderr,
        )
    for note in table.attrs.get("notes", ()):
        print(f"note: {note}")
    if left_out := table.attrs.get("left_out"):
        from ..datasets.manifest.contents import summary

        print(f"note: of the {'folders' if web is None else 'studies'}, {summary(left_out)}")
    if len(failed) == len(table):
        raise RunError(f"{options.out}: every case failed; the table gives the reasons.")
