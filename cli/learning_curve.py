"""`clinvit learning-curve`: what more labelled cases are worth, with an encoder and from scratch."""

from fractions import Fraction
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from .options import add_recipe, begin, chosen, recipe_help, say
from .parser import Parser

SUMMARY = "fine-tune on 1/32 to all of the labels; say what more labels, images or pixels, and an encoder, are worth"
TASKS = RECIPES = "finetune"
MORE = {"labels": 1000, "images": 1000}


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
        "--more", type=int,
        help="further labelled cases (images, pixels, weights) whose worth is said (default: 1000; of pixels and "
        "weights as many as there are at the largest of --values)",
    )  # fmt: skip
    parser.add_argument(
        "--along", choices=["labels", "images", "size", "model"], default="labels",
        help="what there is more of: labels; unlabelled images in pre-training; pixels of the input's side or sizes of "
        "the network, of --values (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--values", help="with --along size or model: rising, such as 64,96,128 or micro,mini,tiny", advanced=True
    )
    parser.add_argument(
        "--pretrain-recipe", advanced=True,
        help="with --along: each value is pre-trained by this recipe first (images: must be given)",
    )  # fmt: skip
    parser.add_argument("--pretrain-config", type=Path, advanced=True, help="YAML file with changes to that recipe")
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

    values = _values(options)
    more = options.more if options.more is not None else MORE.get(options.along, 0)
    asked = Asked(shares, options.seeds, more, options.split, task.unit, options.resamples, options.along, values)
    inputs = task.inputs("finetune", options)
    if options.along == "labels":
        found = learning_curve_stage(recipe, options.data, options.out, asked, **inputs)
        found = found and (*found, asked)
    else:
        from ..stages.learning_axes import learning_axis_stage

        before = _pretraining(options, task)
        found = learning_axis_stage(recipe, before, options.data, options.out, asked, **inputs)
    if found is None:
        return
    from ..eval.report.learning_curve_page import sentences

    runs, notes, asked = found
    say("\n".join([*sentences(runs, asked), *(f"note: {note}" for note in notes), f"page: {options.out / PAGE}"]))


def _values(options) -> tuple[str, ...]:
    """Return the values of the axis; empty along labels and images, which have shares.

    Raises:
        UserError: Options that do not go with the axis.
    """
    valued = options.along in ("size", "model")
    if valued and options.values is None:
        such = "64,96,128" if options.along == "size" else "micro,mini"
        raise UserError(f"--along {options.along}: name --values, such as {such}.")
    if options.values is not None and not valued:
        raise UserError(f"--values belongs to --along size or model, not to --along {options.along}.")
    if options.along == "labels" and (options.pretrain_recipe or options.pretrain_config):
        raise UserError("--pretrain-recipe and --pretrain-config belong to --along images, size or model.")
    if options.pretrain_config and not options.pretrain_recipe:
        raise UserError("--pretrain-config changes a recipe: name it by --pretrain-recipe.")
    return tuple(text.strip() for text in options.values.split(",")) if valued else ()


def _pretraining(options, task: Any):
    """Return the recipe of the pre-trainings; None where none is asked for."""
    from ..engine.recipe import choose_recipe

    if options.pretrain_recipe is None:
        return None
    return choose_recipe(task.recipes["pretrain"], options.pretrain_recipe, options.pretrain_config, [])


def _share(text: str) -> Fraction:
    try:
        return Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise UserError(f"--shares {text.strip()!r}: a share is a fraction or number, such as 1/32 or 0.1.") from None
