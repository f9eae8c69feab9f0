"""`clinvit zero-shot`: a model of prompts, from an encoder that was trained on images and reports."""

from pathlib import Path
from typing import Any

from .parser import Parser

SUMMARY = "a model of findings from prompts, without a labelled image"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("encoder", type=Path, metavar="ENCODER", help="of `clinvit pretrain --recipe reports_...`")
    parser.add_argument(
        "--text-encoder", type=Path, required=True, metavar="FOLDER", help="the text encoder that it was trained with"
    )
    parser.add_argument(
        "--labels", default="", metavar="A,B", help="what is asked, by prompts such as `pneumonia` and `no pneumonia`"
    )
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE",
        help="YAML with prompts of your own, by label: lists `present` and `absent`",
    )  # fmt: skip
    parser.add_argument("--exclusive", action="store_true", help="the labels are classes that exclude each other")
    parser.add_argument("--out", type=Path, required=True, help="run folder to write; the model is in its `model`")


def run(options) -> None:
    """Write the model, and say what it asks."""
    from ..core.errors import UserError
    from ..stages.zero_shot import zero_shot_stage

    labels = [label.strip() for label in options.labels.split(",") if label.strip()]
    if labels and options.prompts is not None:
        raise UserError("--labels and --prompts: give one of them.")
    card = zero_shot_stage(
        options.encoder, options.text_encoder, options.out, labels, options.prompts, options.exclusive
    )  # fmt: skip
    for label in card.labels:
        print(f"{label}: {card.meaning[label]}")
    print(
        f"{options.out / 'model'}: not calibrated, no threshold chosen. `clinvit predict TASK --model "
        f"{options.out / 'model'}` scores cases; `clinvit recalibrate` takes labelled cases of your own."
    )
