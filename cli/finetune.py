"""`clinvit finetune`: a classifier, from an encoder or from scratch."""

from typing import Any

from ..core.errors import UserError
from ..stages.unit_options import add_units, asked_units
from .options import OF_UNITS, THRESHOLD, add_cost, add_recipe, begin, chosen, recipe_help, say
from .parser import Parser

SUMMARY = "train a classifier, from an encoder or from scratch"
TASKS = RECIPES = "finetune"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    add_recipe(parser, task, RECIPES, "run folder; repeating the command continues there")
    add_cost(parser)
    parser.add_argument("--threshold", default="youden", help=THRESHOLD)
    parser.add_argument(
        "--calibrate", choices=["temperature", "platt"],
        help="scale the scores to probabilities on validation, and later those of `predict`; to calibrate a finished "
        "run, repeat its command with this option",
    )  # fmt: skip
    add_units(
        parser, "choose thresholds and calibration for studies, patients or cases, whose images are scored together; "
        "`predict` with this model then scores these, too",
        "; learned: attention over all of a unit's images (--recipe multi_view) or over the tiles of all its slides",
    )  # fmt: skip
    parser.add_argument(
        "--folds", type=_folds, metavar="N|COLUMN", advanced=True,
        help="cross-validate by patient: N models, each scored on patients that it has not seen; with a column such as "
        "site, leave one site out; predictions.csv holds every case once",
    )  # fmt: skip


def _folds(word: str) -> int | str:
    """Return a number of folds, or the column that makes them."""
    return int(word) if word.lstrip("-").isdigit() else word


def more_help(parser: Parser, task: Any, everything: bool) -> str:
    """Return the recipes."""
    return recipe_help(task, RECIPES, "tiny", everything)


def run(options) -> None:
    """Fine-tune, or estimate what it would cost."""
    task = options.task
    if getattr(task, "unit", "") == "slide" and any(word.partition("=")[0] == "--target" for word in options.rest):
        raise UserError(
            "--target is for images: a slide is learned from the features of its tiles, whose scores are its map "
            "(`clinvit predict slides ... --explain`). Leave it out."
        )
    needed = () if options.estimate or isinstance(task, str | None) else ("data", "out", *task.needs("finetune"))
    recipe = chosen(options, RECIPES, needed)
    what = f"finetune {task.name}, recipe {options.recipe}"
    if options.estimate:
        from ..stages.estimate import estimate_finetuning

        if not task.cached or options.recipe == OF_UNITS:
            raise UserError("--estimate is not for bags of slides or of views: an epoch over these takes minutes.")
        print(estimate_finetuning(recipe, what, options.data, options.cases, options.encoder))
        return
    if options.cases:
        raise UserError("--cases belongs to --estimate: leave it out.")
    begin(what, options.data, options.out)
    if options.folds is not None:
        if options.unit is not None:
            raise UserError("--folds is of single images: leave --unit out; `evaluate --unit` takes its predictions.")
        from ..stages.folds import finetune_folds

        table = finetune_folds(
            recipe, options.data, options.out, options.folds, seed=recipe.run.seed, rule=options.threshold,
            calibrate=options.calibrate, **task.inputs("finetune", options),
        )  # fmt: skip
        say(f"models: {options.out / 'fold_1'} and the others beside it\npredictions of all cases: {table}")
        return
    from ..stages.finetune import finetune_stage

    model = finetune_stage(
        recipe, options.data, options.out, rule=options.threshold, calibrate=options.calibrate,
        units=asked_units(options), **task.inputs("finetune", options),
    )  # fmt: skip
    say(f"model: {model}\npredictions: {options.out / 'predictions.csv'}")
