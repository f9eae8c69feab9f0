"""The command `clinvit-runtime`: predictions of an exported model, by ONNX Runtime, without torch and pandas.

Exit codes and messages are those of `clinvit`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import RunError, UserError, printable
from ..datasets.manifest.contents import summary
from ..finetune.scored import WARNING
from ..stages.light_predict import predict_light
from .parser import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print("usage: clinvit-runtime predict INPUT ... --model FOLDER [--out predictions.csv]")
            return 0 if arguments else 2
        if arguments[0] != "predict":
            raise UserError(f"unknown verb {arguments[0]!r}: this part of ClinViT has `predict` alone.")
        _predict(_parser().parse_args(arguments[1:]))
        return 0
    except UserError as error:
        return _fail(error, 2)
    except RunError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _parser() -> Parser:
    parser = Parser(
        "clinvit-runtime predict", "Predict files by an exported model; a file that fails is a row with its reason."
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders, globs, or one manifest CSV")
    parser.add_argument(
        "--model", type=Path, required=True, help="folder of `clinvit export --to onnx`, or a graph (.onnx) in it"
    )
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"), help="table (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="files per batch (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="reading processes (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on where a killed prediction stopped")
    parser.add_argument(
        "--identifiers", action="store_true",
        help="name DICOM files by their file names and patient numbers (default: hashes, and a key beside --out)",
    )  # fmt: skip
    return parser


def _predict(options) -> None:
    found = predict_light(
        options.model, options.inputs, options.out, batch=options.batch, workers=options.workers,
        identifiers=options.identifiers, resume=options.resume,
    )  # fmt: skip
    columns, left_out = found.columns, found.left_out
    reasons = [text for status, text in zip(columns["status"], columns["reason"], strict=True) if status == "failed"]
    for reason in reasons[:20]:
        print(f"failed: {printable(reason)}", file=sys.stderr)
    count = len(columns["id"])
    print(f"{options.out}: {count} requested = {count - len(reasons)} ok + {len(reasons)} failed")
    warned = [f"{name} {text}" for name, text in zip(columns["id"], columns.get(WARNING, ())) if text]
    if warned:
        print(
            f"warning: {len(warned):,} scored case{'s' * (len(warned) != 1)}, see the column `warning`; first: "
            f"{printable(warned[0])}",
            file=sys.stderr,
        )
    if found.unwatched:
        print(f"note: no case is flagged as out of distribution: {found.unwatched}.")
    for note in found.notes:
        print(f"note: {printable(note)}")
    if left_out:
        print(f"note: of the folders, {printable(summary(left_out))}")
    if len(reasons) == count:
        raise RunError(f"{options.out}: every case failed; the table gives the reasons.")


def _fail(error: object, code: int) -> int:
    print(f"clinvit-runtime: error: {printable(error)}", file=sys.stderr)
    return code
