"""`clinvit prepare`: a data set as downloaded becomes a manifest."""

from pathlib import Path
from typing import Any

from ..core.errors import UserError
from .options import add_layout, add_task, layouts_help
from .parser import Parser
from .values import layout_options

SUMMARY = "make manifest.csv from a data set as downloaded"
TASKS = "all"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    add_task(parser)
    parser.add_argument("root", type=Path, metavar="ROOT", help="the data set's folder (or your own CSV)")
    parser.add_argument("--out", type=Path, required=True, help="manifest to write, such as data/manifest.csv")
    add_layout(parser)
    parser.add_argument(
        "--data-root", type=Path, action="append", default=[], metavar="FOLDER", advanced=True,
        help="files may lie below this folder too, not only below ROOT; may be repeated",
    )  # fmt: skip
    parser.add_argument("--resplit", action="store_true", help="make new patient-grouped splits, 70/10/20 %%")
    parser.add_argument("--seed", type=int, default=0, help="of the splits")
    parser.add_argument("--cache-px", type=int, help="also decode all files now, at this shorter side in pixels")
    parser.add_argument(
        "--channels", type=int, choices=(1, 3), advanced=True,
        help="with --cache-px: 1 decodes to grey, 3 to RGB, as the recipe's model.channels (default: the task's)",
    )  # fmt: skip
    parser.add_argument(
        "--shards", metavar="URL", advanced=True,
        help="also pack the decoded files into shards there, such as s3://bucket/folder; repeated, it goes on",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=-1, help="decoding processes (default: one per core)")


def more_help(parser: Parser, task: Any, everything: bool) -> str:
    """Return the layouts."""
    return layouts_help(task, everything)


def run(options) -> None:
    """Write the manifest; decode and pack the files where that is asked for."""
    if options.cache_px and not options.task.cached:
        raise UserError("--cache-px: slides are read tile by tile and never cached; leave it out.")
    if options.shards and not options.cache_px:
        raise UserError("--shards packs decoded files: say at which size, such as --cache-px 256.")
    print(f"prepare {options.task.name}: {options.root} -> {options.out}", flush=True)
    from ..stages.prepare import prepare_stage

    manifest, notes, warnings, lists_only = prepare_stage(
        options.task.layouts(), options.root, options.out, layout=options.layout,
        options=layout_options(options.option), resplit=options.seed if options.resplit else None,
        data_roots=options.data_root, holds=options.task.holds,
    )  # fmt: skip
    warnings = [*warnings, *([] if lists_only else options.task.warnings(manifest))]
    for line in [*notes, *(f"warning: {warning}" for warning in warnings)]:
        print(line)
    if options.cache_px:
        _decode(options, manifest)
    counts = manifest.table["split"].value_counts()
    print(f"{options.out}: {len(manifest)} cases, " + ", ".join(f"{split} {n}" for split, n in counts.items()))


def _decode(options, manifest) -> None:
    from ..datasets.loading.cache import build_cache
    from ..datasets.loading.loaders import reading_workers
    from ..stages.data import CACHE

    folder = options.out.parent / CACHE
    reader = options.task.reader(manifest, options.cache_px, options.channels)
    cache = build_cache(manifest.files(), folder, reader, reading_workers(options.workers, True))
    failed = [reason for reason in cache.reasons() if reason]
    print(f"{folder}: {len(cache) - len(failed)} files cached, {len(failed)} failed")
    for reason in failed[:20]:
        print(f"  {reason}")
    if note := cache.colour_note():
        print(f"note: {note}")
    if options.shards:
        from ..datasets.loading.shards.packing import pack

        index = pack(manifest, cache, options.shards)
        size = sum(size for _, size in index.shards) / 1e9
        print(f"{options.shards}: {len(index.places)} cases in {len(index.shards)} shards, {size:.2f} GB")
