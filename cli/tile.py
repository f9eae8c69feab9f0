"""`clinvit tile`: the tissue of slides, and a grid of tiles over it."""

import sys
from typing import Any

from .options import add_recipe, begin, chosen, recipe_help
from .parser import Parser

SUMMARY = "find the tissue of slides and lay a grid of tiles over it"
TASKS = RECIPES = "tile"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    add_recipe(parser, task, RECIPES, "folder of tile coordinates; repeating the command continues", "standard")


def more_help(parser: Parser, task: Any, everything: bool) -> str:
    """Return the recipes."""
    return recipe_help(task, RECIPES, "standard", everything)


def run(options) -> None:
    """Tile every slide."""
    recipe = chosen(options, RECIPES, ("data", "out"))
    begin(f"tile {options.task.name}, recipe {options.recipe}", options.data, options.out)
    from ..stages.data import open_manifest
    from ..stages.slides.tile import tile_slides

    print(status(tile_slides(recipe, open_manifest(options.data, labels=()), options.out), options.out))


def status(table, out) -> str:
    """Return a line on a status table: requested = ok + failed + open."""
    counts = table["status"].value_counts()
    words = " + ".join(f"{counts.get(each, 0)} {each}" for each in ("ok", "failed", "open"))
    tiles = int(table["tiles"].sum()) if "tiles" in table else 0
    if "warning" in table:
        said = table[table["warning"].fillna("") != ""]
        for _, row in said.head(5).iterrows():
            print(f"warning: {row['id']}: {row['warning']}", file=sys.stderr)
        if len(said) > 5:
            print(f"warning: ... and {len(said) - 5} more slides (status.csv, column warning)", file=sys.stderr)
    return f"{out}: {len(table)} requested = {words} (status.csv); {tiles} tiles{_left_out(table)}"


def _left_out(table) -> str:
    """Return how many tiles were left out as spoilt, and by what; '' where none was judged."""
    counts = {name: int(table[name].sum()) for name in table if name.startswith("left_out_")}
    if not counts:
        return ""
    words = ", ".join(f"{count} {name.removeprefix('left_out_')}" for name, count in counts.items())
    return f" of {int(table['tiles_judged'].sum())}; left out: {words} (quality/)"
