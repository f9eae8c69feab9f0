"""`clinvit extract`: features of all tiles of all slides."""

from typing import Any

from .options import add_recipe, begin, chosen, recipe_help
from .parser import Parser
from .tile import status

SUMMARY = "make features of all tiles of all slides"
TASKS = RECIPES = "extract"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    add_recipe(parser, task, RECIPES, "folder of features; repeating the command continues", "standard")


def more_help(parser: Parser, task: Any, everything: bool) -> str:
    """Return the recipes."""
    return recipe_help(task, RECIPES, "standard", everything)


def run(options) -> None:
    """Encode every slide's tiles."""
    recipe = chosen(options, RECIPES, ("data", "out", "tiles", "encoder"))
    begin(f"extract {options.task.name}, recipe {options.recipe}", options.data, options.out)
    from ..mil.extract import extract
    from ..stages.data import open_manifest

    manifest = open_manifest(options.data, labels=())
    print(status(extract(recipe, manifest, options.tiles, options.out, options.encoder), options.out))
