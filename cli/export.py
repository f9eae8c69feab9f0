"""`clinvit export`: a model or an encoder for other libraries."""

from pathlib import Path
from typing import Any

from .parser import Parser

SUMMARY = "a model or an encoder for timm, Hugging Face, ONNX or torch.export; a model card"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="model or encoder folder; it is only read")
    parser.add_argument(
        "--to", choices=["timm", "huggingface", "onnx", "torch", "card"],
        help="whom it is for; `card` writes a README.md of the folder's own facts",
    )  # fmt: skip
    parser.add_argument(
        "--merge", action="store_true",
        help="merge idle units (finetune --idle); without --to a smaller folder of ours. onnx and torch always do so",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--int8", action="store_true", help="onnx: also a graph with int8 weights, for CPUs")
    parser.add_argument("--data", type=Path, help="with --int8: manifest; what int8 loses on its validation cases")


def run(options) -> None:
    """Export, and print what was written."""
    from ..stages.export import export_stage

    said = export_stage(
        options.folder, options.to, options.out, int8=options.int8, data=options.data, merge=options.merge
    )
    print(*said, sep="\n")
