"""`clinvit merge`: models that several hospitals fine-tuned from one encoder become one, without their data."""

from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..stages.merge import METHODS
from .parser import Parser

SUMMARY = "make one model of several that were fine-tuned from one encoder"
BASE = "base"
LEAKS = (
    "note: no data left a hospital, but weights do: a model can tell things about the cases that it was trained on. "
    "Hand it out as you would hand out the data."
)


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "words", nargs="+", metavar="base=ENCODER [NAME=]MODEL [NAME=]MODEL",
        help="the encoder that all started from, and model folders (or run folders) in the order of merging",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="run folder to write; the model is in its `model`")
    parser.add_argument(
        "--method", choices=METHODS, default=METHODS[0],
        help="how the encoders are merged: orthogonal is OPCM, the others are its baselines (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--alpha", type=float, default=0.5,
        help="of orthogonal: share of what is merged that the next model leaves alone (default: %(default)s)",
    )  # fmt: skip


def run(options) -> None:
    """Merge the models."""
    from ..stages.merge import merge_stage

    models: dict[str, Path] = {}
    for word in options.words:
        before, sign, after = word.partition("=")
        path = Path(after if sign else word)
        folder = path / "model" if (path / "model").is_dir() else path
        name = before if sign else str(folder.parent if folder.name == "model" else folder)
        if name in models:
            raise UserError(f"{name} names two folders: NAME=FOLDER gives each its own name.")
        models[name] = folder
    if BASE not in models:
        raise UserError("name the encoder that all models started from: base=ENCODER.")
    base = models.pop(BASE)
    card = merge_stage(base, models, options.out, options.method, options.alpha)
    print(f"merged {', '.join(models)} by {options.method}: {options.out / 'model'}, labels {', '.join(card.labels)}")
    print("note: thresholds and calibration are left out: `clinvit recalibrate` fits them on a site's own validation.")
    print(LEAKS)
