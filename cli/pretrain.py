"""`clinvit pretrain`: an encoder from unlabelled images, clips or tiles."""

from typing import Any

from ..core.errors import UserError
from .options import add_cost, add_recipe, begin, chosen, recipe_help, say
from .parser import Parser

SUMMARY = "pre-train an encoder on unlabelled images, clips or tiles"
TASKS = RECIPES = "pretrain"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    add_recipe(parser, task, RECIPES, "run folder; repeating the command continues there")
    add_cost(parser)


def more_help(parser: Parser, task: Any, everything: bool) -> str:
    """Return the recipes."""
    return recipe_help(task, RECIPES, "tiny", everything)


def run(options) -> None:
    """Pre-train, or estimate what it would cost."""
    task = options.task
    needed = () if options.estimate or isinstance(task, str | None) else ("data", "out", *task.needs("pretrain"))
    recipe = chosen(options, RECIPES, needed)
    what = f"pretrain {task.name}, recipe {options.recipe}"
    if options.estimate:
        from ..stages.estimate import estimate_pretraining

        given = options.data, options.cases, not task.cached, options.encoder
        print(estimate_pretraining(recipe, what, *given))
        return
    if options.cases:
        raise UserError("--cases belongs to --estimate: leave it out.")
    begin(what, options.data, options.out)
    from ..stages.pretrain import pretrain_stage

    encoder = pretrain_stage(recipe, options.data, options.out, **task.inputs("pretrain", options))
    say(f"encoder: {encoder}")
