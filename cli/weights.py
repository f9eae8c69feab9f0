"""`clinvit weights`: what a checkpoint is, and the folder that it becomes. No code in it is ever run."""

from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..tasks import all_tasks
from .parser import Parser

SUMMARY = "say what a checkpoint is, or make an encoder folder of it"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("action", choices=["inspect", "convert"], help="only say what it is, or make a folder of it")
    parser.add_argument(
        "file",
        help="checkpoint file, folder (ours, Hugging Face's), timm:NAME or hf-hub:OWNER/NAME; no code in it runs",
    )
    parser.add_argument("--out", type=Path, help="encoder (or model) folder to write (convert)")
    parser.add_argument("--labels", help="names of a model's outputs, a,b,c (convert of DSMIL, CLAM, ERDES baselines)")
    parser.add_argument(
        "--like", metavar="NAME", help="a network of timm of the same kind, for what the file does not say"
    )
    parser.add_argument("--heads", type=int, help="attention heads, where the file does not say")
    parser.add_argument("--size", help="input, HEIGHTxWIDTH or one side in px, where the file does not say")
    parser.add_argument("--prefix", help="what the names of the ViT begin with, where the file holds several")
    parser.add_argument("--mean", help="what pixels in 0..1 are normalised with, one number or one per channel, a,b,c")
    parser.add_argument("--std", help="the same, standard deviation")
    parser.add_argument("--pool-ratio", type=float, help="of an ERDES baseline with selective pooling (convert)")


def run(options) -> None:
    """Inspect or convert."""
    from ..stages.weights import convert_weights, inspect_weights, what_is_said

    said = what_is_said(options.like, options.heads, options.size, options.prefix, options.mean, options.std)

    if options.action == "inspect":
        for name in ("out", "labels", "pool_ratio"):
            if getattr(options, name):
                raise UserError(f"--{name.replace('_', '-')} is not for inspect: leave it out.")
        print(inspect_weights(options.file, said))
        return
    if options.out is None:
        raise UserError("weights convert needs --out FOLDER")
    labels = options.labels.split(",") if options.labels else None
    print(convert_weights(options.file, options.out, labels, options.pool_ratio, _recipe_of, said))


def _recipe_of(network: str) -> Any:
    return next((recipe for task in all_tasks() if (recipe := task.baseline(network)) is not None), None)
