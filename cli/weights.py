"""`clinvit weights`: what a checkpoint is, the folder that it becomes, and public encoders by name.

No code in a checkpoint is ever run, and nothing is fetched but by `weights fetch`.
"""

from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..tasks import all_tasks
from .parser import Parser

SUMMARY = "say what a checkpoint is, make an encoder folder of it, list public encoders or fetch one"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "action", choices=["inspect", "convert", "list", "fetch"],
        help="only say what it is; make a folder of it; list the public encoders that have a name, or all facts of "
        "one; fetch the weights of a name into the hub's cache on this machine",
    )  # fmt: skip
    parser.add_argument(
        "file", nargs="?",
        help="checkpoint file, folder (ours, Hugging Face's), timm:NAME or hf-hub:OWNER/NAME; no code in it runs. Of "
        "list and fetch: a name, such as rad-dino",
    )  # fmt: skip
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
    """Inspect, convert, list or fetch."""
    if options.action != "convert":
        for name in ("out", "labels", "pool_ratio"):
            if getattr(options, name):
                raise UserError(f"--{name.replace('_', '-')} is not for {options.action}: leave it out.")
    if options.action != "list" and options.file is None:
        raise UserError(f"weights {options.action} needs a file, folder or name (see `clinvit weights --help`)")
    if options.action in ("list", "fetch"):
        for name in ("like", "heads", "size", "prefix", "mean", "std"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name} is not for {options.action}: leave it out.")
        _of_name(options.action, options.file)
        return
    from ..stages.weights import convert_weights, inspect_weights, what_is_said

    said = what_is_said(options.like, options.heads, options.size, options.prefix, options.mean, options.std)
    if options.action == "inspect":
        print(inspect_weights(options.file, said))
        return
    if options.out is None:
        raise UserError("weights convert needs --out FOLDER")
    labels = options.labels.split(",") if options.labels else None
    print(convert_weights(options.file, options.out, labels, options.pool_ratio, _recipe_of, said))


def _recipe_of(network: str) -> Any:
    return next((recipe for task in all_tasks() if (recipe := task.baseline(network)) is not None), None)


def _of_name(action: str, name: str | None) -> None:
    """Print the table of public encoders, or all facts of one, or fetch its weights."""
    from ..backbone.public import described, fetch, table

    if action == "fetch":
        assert name is not None, "asked for above"
        print(f"{name}: {fetch(name)}")
    else:
        print(table() if name is None else described(name))
