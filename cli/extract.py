"""`clinvit extract`: features of all tiles of all slides, or of images and clips."""

import sys
from pathlib import Path
from typing import Any

from ..core.errors import RunError
from .options import add_recipe, begin, chosen, recipe_help
from .parser import Parser
from .tile import status

SUMMARY = "make features of all tiles of all slides, or of images and clips, by a frozen encoder"
TASKS = RECIPES = "extract"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    out = "folder of features; of slides, repeating the command continues"
    add_recipe(parser, task, RECIPES, out, "standard")


def more_help(parser: Parser, task: Any, everything: bool) -> str:
    """Return the recipes."""
    return recipe_help(task, RECIPES, "standard", everything)


def run(options) -> None:
    """Encode every slide's tiles, or every image or clip."""
    task = options.task
    needed = () if isinstance(task, str | None) else ("data", "out", *task.needs("extract"))
    recipe = chosen(options, RECIPES, needed)
    begin(f"extract {options.task.name}, recipe {options.recipe}", options.data, options.out)
    from ..stages.data import open_manifest

    manifest = open_manifest(options.data, labels=())
    if task.cached:
        _images(recipe, manifest, options)
        return
    from ..mil.extract import extract

    print(status(extract(recipe, manifest, options.tiles, options.out, options.encoder), options.out))


def _images(recipe: Any, manifest: Any, options: Any) -> None:
    """Encode images or clips; say what failed."""
    from ..stages.extract import CASES, FEATURES, extract_features

    say_vectors(extract_features(recipe, manifest, options.encoder, options.out), options.out, FEATURES, CASES)


def say_vectors(table: Any, out: Path, features: str, cases: str) -> None:
    """Say how many cases have a vector, and why the others have none.

    Args:
        table: DataFrame with `status` and `reason`.
        out: The folder of both files.
        features: Name of the vectors' file.
        cases: Name of the table's file.

    Raises:
        RunError: Every case failed.
    """
    failed = table[table["status"] == "failed"]
    for reason in failed["reason"].head(20):
        print(f"failed: {reason}", file=sys.stderr)
    words = f"{len(table)} requested = {len(table) - len(failed)} ok + {len(failed)} failed"
    print(f"{out}: {words} ({features}; its rows are {cases})")
    if len(table) and len(failed) == len(table):
        raise RunError(f"{out}: every case failed; {cases} gives the reasons.")
