"""Options that several verbs share, and the first line of a run."""

import csv
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.platform import device_words
from ..tasks import load, names
from .parser import Parser

THRESHOLD = (
    "rule for thresholds on validation: youden, sensitivity=0.9, specificity=0.9, cost=10:1 (a missed case against a "
    "false alarm; cost=10:1@0.02 at that prevalence), or 0.5 (default: youden)"
)
CUT_OFF = (
    "the cut-off of the protocol, 0.31, or the rule that chooses one on val: youden, sensitivity=0.9, specificity=0.9, "
    "cost=10:1 (a missed case against a false alarm; cost=10:1@0.02 at that prevalence); for one finding "
    "Effusion=0.31, several with commas or the option repeated (default: those stored with the model where the table "
    "has no val, else the rule by which the model chose its own, youden)"
)
OF_UNITS = "multi_view"  # the recipe that learns of units alone, which only `finetune` knows
# Of a recipe, the options that most people change.
USUAL = ("optim.epochs", "optim.batch_size", "optim.base_lr", "data.labels", "run.devices")


def add_task(parser: Parser, known: Sequence[str] | None = None) -> None:
    """Add the task that a verb is for."""
    known = known or names()
    parser.add_argument("task", metavar="TASK", choices=known, help=f"one of: {', '.join(known)}")


def add_layout(parser: Parser) -> None:
    """Add the options for a data set's layout."""
    parser.add_argument("--layout", help="the data set's layout, where it is not recognised")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the layout; may be repeated"
    )


def layouts_help(task: Any, everything: bool) -> str:
    """Return the layouts of a task, their options and what they mean, as help."""
    if task is None:
        return f"`clinvit prepare TASK --help` lists the layouts of a task; tasks: {', '.join(names())}."
    lines = ["layouts, and the keys of their --option:"]
    for name, layout in task.layouts().items():
        lines.append(f"  {name:14}{layout.needs}")
        defaults = inspect.signature(layout.read).parameters
        for key, words in layout_options(layout.read).items():
            lines.append(f"    {key} ({defaults[key].default!r}): {words if everything else words.split('. ')[0]}")
    return "\n".join(lines) + "\n"


def layout_options(read: Callable) -> dict[str, str]:
    """Return what each option of a layout's reader means, from the reader's docstring."""
    from docstring_parser import parse

    reader = getattr(read, "func", read)  # under `partial`
    described = {each.arg_name: each.description or "" for each in parse(reader.__doc__ or "").params}
    parameters = inspect.signature(read).parameters.items()
    keys = [key for key, each in parameters if each.kind is each.KEYWORD_ONLY and key != "unit"]
    return {key: " ".join(described.get(key, "").split()) for key in keys}


def add_recipe(parser: Parser, task: Any, stage: str, out: str, default: str = "tiny") -> None:
    """Add the options of every verb with recipes.

    Args:
        parser: The verb's parser.
        task: The task; None in general help.
        stage: Name of the recipes: `pretrain`.
        out: What `--out` is, for help.
        default: Name of the recipe that is taken unasked.
    """
    parser.add_argument("task", metavar="TASK", nargs="?", help=f"one of: {', '.join(tasks_with(stage))}")
    parser.add_argument("--data", type=Path, help="manifest.csv or its folder")
    parser.add_argument("--out", type=Path, help=out)
    parser.add_argument("--recipe", default=default, help="named recipe to start from (default: %(default)s)")
    parser.add_argument("--config", type=Path, help="YAML file with changes to the recipe")
    if task is not None:
        task.add_arguments(stage, parser)


def tasks_with(stage: str) -> list[str]:
    """Return the names of the tasks that have recipes for a stage."""
    return [name for name in names() if stage in load(name).recipes]


def recipe_help(task: Any, stage: str, default: str, everything: bool) -> str:
    """Return the recipes of a task and the options of one of them, as help."""
    from ..engine.recipe import recipe_parser

    task = task if task is not None and stage in task.recipes else load(tasks_with(stage)[0])
    recipes = task.recipes[stage]
    width = max(map(len, recipes)) + 2
    lines = [f"recipes of {task.name}:"]
    lines += [f"  {name:{width}}{make.__doc__.splitlines()[0]}" for name, make in recipes.items()]
    name = default if default in recipes else next(iter(recipes))
    parser = recipe_parser(recipes[name]())
    if everything:
        text = parser.format_help()
        lines += ["", f"Every value of the recipe is an option; the defaults shown are those of {name!r}."]
        return "\n".join(lines) + (text[text.index("\n\n") :] if "\n\n" in text else text)
    lines += ["", f"of the recipe's values, each an option (defaults of {name!r}):"]
    for action in parser._actions:
        if action.dest in USUAL:
            words = " ".join((action.help or "").split(" (type:")[0].split())
            lines.append(f"  --{action.dest:20}{words} (default: {action.default})")
    return "\n".join(lines) + "\n"


def add_cost(parser: Parser) -> None:
    """Add the options that measure what a training costs."""
    parser.add_argument(
        "--estimate", action="store_true",
        help="only measure a few steps; report FLOPs, time, memory, and the optim.accumulate that fits this machine",
    )  # fmt: skip
    parser.add_argument(
        "--cases", type=int, advanced=True, help="with --estimate: cases per epoch (default: those of --data)"
    )
    parser.add_argument(
        "--profile", action="store_true", advanced=True,
        help="also write trace.json.gz, a few steps operator by operator, into --out (ui.perfetto.dev opens it)",
    )  # fmt: skip


def chosen(options: Any, stage: str, needed: Sequence[str] = (), changed: Callable[[Any], Any] = lambda recipe: recipe):
    """Return the task and the recipe of a verb with recipes.

    Args:
        options: What the command line gave.
        stage: Name of the recipes.
        needed: Options that must be there.
        changed: Makes the verb's recipe of a named one, before the options change it.

    Raises:
        UserError: The task is missing or has no such stage, an option is missing, or the recipe is wrong.
    """
    from ..engine.recipe import choose_recipe

    known = tasks_with(stage)
    if isinstance(options.task, str | None) or options.task.name not in known:
        name = getattr(options.task, "name", options.task)
        about = "no task" if name is None else f"task {name!r}"
        raise UserError(f"{about}: name one of {', '.join(known)}, as in `clinvit {options.verb} {known[0]}`.")
    if options.recipe == OF_UNITS and options.verb != "finetune":
        raise UserError(f"--recipe {OF_UNITS} is for `clinvit finetune {options.task.name} --unit study` alone.")
    for name in needed:
        if getattr(options, name) is None:
            raise UserError(f"--{name} is missing (see `clinvit {options.verb} {options.task.name} --help`)")
    rest = [*options.rest, *["--run.profile=true"] * getattr(options, "profile", False)]
    recipes = {name: lambda make=make: changed(make()) for name, make in options.task.recipes[stage].items()}
    return choose_recipe(recipes, options.recipe, options.config, rest)


def begin(what: str, data: Path | None, out: Path) -> None:
    """Print the first line of a run: what, on how many cases, on which device, to where."""
    cases = _cases(data)
    about = f"{cases:,} case{'s' * (cases != 1)} of {data}" if cases is not None else str(data or "")
    say(f"{what}{f': {about}' if about else ''} -> {out}, on {device_words()}")


def say(text: str) -> None:
    """Print once, however many processes a run has."""
    from ..engine.run_folder import rank

    if rank() == 0:
        print(text, flush=True)


def _cases(data: Path | None) -> int | None:
    """Return the number of rows of a manifest, or None: the stage itself will say what is wrong with it."""
    if data is None:
        return None
    path = data / "manifest.csv" if data.is_dir() else data
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return max(0, sum(1 for row in csv.reader(file) if row) - 1)
    except (OSError, ValueError, csv.Error):
        return None
