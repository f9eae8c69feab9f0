"""`clinvit learning-curve`: what more labelled cases are worth, with an encoder and from scratch."""

from fractions import Fraction
from typing import Any

from ..core.errors import UserError
from .options import add_recipe, begin, chosen, recipe_help, say
from .parser import Parser

SUMMARY = "fine-tune on 1/32 to all of the labels; say what more labels, and an encoder, are worth"
TASKS = RECIPES = "finetune"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    add_recipe(parser, task, RECIPES, "folder of all runs and the page; repeating the command continues there")
    parser.add_argument(
        "--shares", default="1/32,1/16,1/8,1/4,1/2,1",
        help="of the labelled patients, rising, the last 1; each holds all smaller ones (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        help="trainings of each share, each with other patients, from run.seed on; raise it later for more (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--more", type=int, default=1000, help="labelled cases whose worth is said (default: %(default)s)"
    )
    parser.add_argument(
        "--split", choices=["test", "val"], default="test",
        help="where models are scored; on val a run may have chosen its epoch (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--resamples", type=int, default=1000, advanced=True, help="of patients and runs (default: %(default)s)"
    )


def more_help(parser: Parser, task: Any, everything: bool) -> str:
    """Return the recipes."""
    return recipe_help(task, RECIPES, "tiny", everything)


def run(options) -> None:
    """Train what is missing, write the page, and print its sentences."""
    task = options.task
    needed = () if isinstance(task, str | None) else ("data", "out", *task.needs("finetune"))
    recipe = chosen(options, RECIPES, needed)
    shares = tuple(map(_share, options.shares.split(",")))
    begin(f"learning-curve {task.name}, recipe {options.recipe}", options.data, options.out)
    from ..stages.learning_curve import PAGE, Asked, learning_curve_stage

    asked = Asked(shares, options.seeds, options.more, options.split, task.unit, options.resamples)
    found = learning_curve_stage(recipe, options.data, options.out, asked, **task.inputs("finetune", options))
    if found is None:
        return
    from ..eval.report.learning_curve_page import sentences

    runs, notes = found
    say("\n".join([*sentences(runs, asked), *(f"note: {note}" for note in notes), f"page: {options.out / PAGE}"]))


def _share(text: str) -> Fraction:
    try:
        return Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise UserError(f"--shares {text.strip()!r}: a share is a fraction or number, such as 1/32 or 0.1.") from None
