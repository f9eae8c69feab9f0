"""`clinvit check`: look at a data set and the machine before anything runs."""

import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.platform import device_words
from .options import add_layout, add_task, layouts_help
from .parser import Parser
from .values import layout_options

SUMMARY = "look at a data set and the machine before anything runs"
TASKS = "all"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    add_task(parser)
    parser.add_argument("data", type=Path, metavar="DATA", help="a manifest, its folder, or a data set as downloaded")
    add_layout(parser)
    parser.add_argument("--labels", help="labels to check, separated by commas (default: all)")
    parser.add_argument(
        "--files",
        type=int,
        default=200,
        help="files to read, evenly over the table, or all where few more are left; 0 for all (default: 200)",
    )
    parser.add_argument(
        "--cache-px", type=int, default=256, advanced=True, help="cache size to estimate, pixels (default: 256)"
    )
    parser.add_argument(
        "--duplicates", type=Path, metavar="PAIRS",
        help="compare all files and write the pairs that show the same image to this CSV (a cache of --cache-px "
        "pixels beside the manifest makes it quick); without it, the files that are read are compared",
    )  # fmt: skip
    parser.add_argument("--encoder", type=Path, help="encoder or model folder: which of the cases has it seen already?")
    parser.add_argument(
        "--recipe", help="also time its loading and its steps: which of the two is the bottleneck here?"
    )


def more_help(parser: Parser, task: Any, everything: bool) -> str:
    """Return the layouts."""
    return layouts_help(task, everything)


def run(options) -> None:
    """Print a description of the data set, warnings and errors.

    Raises:
        UserError: Something is wrong.
    """
    from ..datasets.quality.check import cohort
    from ..stages.data import MANIFEST, open_manifest
    from ..stages.leaks import add_leaks
    from ..stages.prepare import prepare_stage

    task, notes, warnings, files = options.task, [], [], options.files
    labels = options.labels.split(",") if options.labels else None
    with tempfile.TemporaryDirectory() as folder:
        if options.layout or (options.data.is_dir() and not (options.data / MANIFEST).is_file()):
            layout = {"layout": options.layout, "options": layout_options(options.option)}
            manifest, notes, warnings, lists_only = prepare_stage(
                task.layouts(), options.data, Path(folder) / MANIFEST, **layout
            )
            if lists_only:
                warnings, files = [*warnings, "these are lists without files: no file was looked for."], None
        else:
            manifest = open_manifest(options.data, labels)
        manifest = manifest.with_labels(labels) if labels else manifest
        found = task.check(manifest, files, options.cache_px)
        add_leaks(found, manifest, task, cache_px=options.cache_px, encoder=options.encoder, pairs=options.duplicates)
        if options.recipe is not None and files is None:
            warnings.append(f"--recipe {options.recipe} was not timed: there are no files to read.")
        elif options.recipe is not None and not found.errors:
            from ..stages.bottleneck import bottleneck

            found.facts += bottleneck(task, manifest, options.recipe)
    facts = [*notes, *found.facts, *([] if found.errors else [_machine()])]
    print(cohort(manifest).to_string(), "(positive/known per label)", sep="\n", end="\n\n")
    for level, texts in (
        ("ok", facts),
        ("warning", dict.fromkeys([*warnings, *found.warnings])),
        ("ERROR", found.errors),
    ):
        for text in texts:
            print(f"{level:8}{text}")
    if found.errors:
        raise UserError(f"{options.data}: {len(found.errors)} problem(s) found, listed above; correct them first.")
    print("\nNo problem found.")


def _machine() -> str:
    """Return versions and device in words, without loading PyTorch for it."""
    return f"torch {version('torch')}, on {device_words()}, {platform.platform()}"
