"""`clinvit distil`: a smaller classifier that learns from larger ones."""

from pathlib import Path
from typing import Any

from ..core.errors import UserError
from .options import THRESHOLD, add_recipe, begin, chosen, recipe_help, say, tasks_with
from .parser import Parser

SUMMARY = "train a small classifier on the labels and on what one or more models say"
TASKS = RECIPES = "finetune"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    add_recipe(parser, task, RECIPES, "run folder; repeating the command continues there")
    parser.add_argument("--teacher", metavar="MODEL[,MODEL]", help="model folders that it learns from")
    parser.add_argument("--size", help="size of the student: micro, mini, tiny, small, ... (default: the recipe's)")
    parser.add_argument("--threshold", default="youden", help=THRESHOLD)
    parser.add_argument(
        "--calibrate", choices=["temperature", "platt"], help="scale the scores to probabilities on validation"
    )


def more_help(parser: Parser, task: Any, everything: bool) -> str:
    """Return the recipes, which are those of fine-tuning, and what a distillation adds."""
    added = (
        "\nof the distillation, too:\n"
        "  --views N          stored views of each case (default: 8)\n"
        "  --alpha A          share of the labels in the loss; the teachers have the rest (default: 0.5)\n"
        "  --temperature T    of teachers and student (default: 1)\n"
        "  --beta B           weight of the teachers' features; 0 for their scores alone (default: 1)\n"
    )
    return recipe_help(task, RECIPES, "tiny", everything) + added


def run(options) -> None:
    """Distil."""
    task = options.task
    if not isinstance(task, str | None) and not task.cached:
        known = ", ".join(name for name in tasks_with(RECIPES) if name != task.name)
        raise UserError(f"distil is for images and clips ({known}), not for bags of {task.name}.")
    if options.size is not None and getattr(options, "encoder", None) is not None:
        raise UserError(f"--size {options.size} is for a student from scratch; one from --encoder has its size.")
    if options.teacher is None:
        raise UserError("--teacher is missing: a model folder (`clinvit finetune` makes one), or several with commas.")
    from ..finetune.distil_recipe import distilling

    notes: list[str] = []

    def changed(recipe):
        student, left_out = distilling(recipe)
        notes.extend(left_out)
        return student

    if options.size is not None:
        options.rest = [*options.rest, f"--model.size={options.size}"]
    needed = () if isinstance(task, str | None) else ("data", "out", *task.needs("finetune"))
    recipe = chosen(options, RECIPES, needed, changed)
    begin(f"distil {task.name}, recipe {options.recipe}, teachers {options.teacher}", options.data, options.out)
    if notes:
        say(f"note: {', '.join(notes)} of the recipe left out: the teachers' answers are of unchanged views")
    from ..stages.distil import distil_stage

    teachers = [Path(folder.strip()) for folder in options.teacher.split(",") if folder.strip()]
    model = distil_stage(
        recipe, options.data, options.out, teachers, rule=options.threshold, calibrate=options.calibrate,
        **task.inputs("finetune", options),
    )  # fmt: skip
    say(f"model: {model}\npredictions: {options.out / 'predictions.csv'}")
