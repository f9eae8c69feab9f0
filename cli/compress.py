"""`clinvit compress`: a smaller and faster model that is shown to be not worse."""

from pathlib import Path
from typing import Any

from ..core.errors import UserError
from .parser import Parser

SUMMARY = "make a model smaller and faster, and show that no finding loses more than a margin"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder of finetune or distil; it is only read")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; repeating the command goes on there")
    parser.add_argument(
        "--margin", type=float, required=True, help="the loss of a finding's AUROC that does not matter, such as 0.01"
    )
    parser.add_argument(
        "--data", type=Path, help="the manifest that the model was trained on (default: that of the run's command)"
    )
    parser.add_argument(
        "--target", choices=["onnx", "torch"], default="onnx",
        help="a graph for onnxruntime, or a model folder for PyTorch (default: onnx)",
    )  # fmt: skip
    parser.add_argument(
        "--methods", metavar="NAME,NAME",
        help="what is tried, alone and together: idle (hidden units, merged), prune (heads and hidden units), distil "
        "(a smaller size), int8 (onnx) (default: all)",
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, help="of each training (default: a third of the model's own)")
    parser.add_argument(
        "--cache", type=Path, advanced=True, help="folder for decoded files (default: pixel-cache, beside --out)"
    )


def run(options) -> None:
    """Compress, and say what was kept."""
    from ..compress.variants import METHODS
    from ..stages.compress.run import Request, compress_stage

    if options.methods is None:
        methods = METHODS
    else:
        methods = tuple(name.strip() for name in options.methods.split(",") if name.strip())
        if not methods:
            raise UserError(f"--methods {options.methods!r}: of {', '.join(METHODS)}.")
    print(f"compress: {options.folder}, margin {options.margin:g}, for {options.target} -> {options.out}", flush=True)
    found = compress_stage(
        Request(
            options.folder, options.out, options.margin, options.data, options.target, methods, options.epochs,
            options.cache,
        )
    )  # fmt: skip
    print(*found.sentences(), sep="\n")
    print(f"model: {options.out / 'model'}")
    if options.target == "onnx":
        print(f"graph: {options.out / 'onnx'}")
    print(f"table: {options.out / 'compress.csv'}\npage: {options.out / 'compress.html'}")
