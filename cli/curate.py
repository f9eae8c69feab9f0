"""`clinvit curate`: of an archive, the cases that are worth pre-training on."""

from pathlib import Path
from typing import Any

from .parser import Parser

SUMMARY = "choose the cases of an archive for pre-training: no broken, blank or doubled ones, balanced, like a target"
TASKS = "all"
SHOWN = 20  # entries


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    if task is not None:
        parser.add_argument("task", metavar="TASK", choices=[task.name], help="may be left out: the manifest says it")
    parser.add_argument("data", type=Path, metavar="DATA", help="manifest.csv of the archive, or its folder")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder to write: manifest.csv, dropped.csv (id, reason), curation.html, curation.json",
    )
    parser.add_argument("--views", help="views that stay, such as PA,AP; those of unknown view stay too (default: all)")
    parser.add_argument(
        "--balance", metavar="COLUMNS",
        help="balance over these columns, separated by commas, such as findings,view,site,scanner,age: `findings` are "
        "all labels, ages go by bands of ten years",
    )  # fmt: skip
    parser.add_argument(
        "--per-entry", type=int, metavar="COUNT",
        help="with --balance: of each finding, view, site, ... about so many cases stay, of rarer ones all; more of "
        "frequent ones whose patients have rarer ones too, for a patient stays or goes as a whole",
    )  # fmt: skip
    parser.add_argument("--target", type=Path, metavar="MANIFEST", help="keep images like those of this manifest")
    parser.add_argument("--encoder", help="with --target: encoder folder, checkpoint or public name")
    parser.add_argument(
        "--clusters", type=int, advanced=True,
        help="with --target: clusters of the archive; more are stricter (default: one for ten images, 10000 at most)",
    )  # fmt: skip
    parser.add_argument("--labels", help="the label columns, separated by commas (default: all of 0 and 1)")
    parser.add_argument(
        "--cache-px", type=int, default=256, advanced=True,
        help="shorter side at which files are compared, pixels; a cache of that size beside the manifest makes it "
        "quick (default: 256)",
    )  # fmt: skip


def run(options) -> None:
    """Write the manifest of what stays and the table of what does not."""
    from ..stages.curate import DROPPED, PAGE, Wanted, curate_stage
    from ..stages.data import MANIFEST, open_manifest

    manifest = open_manifest(options.data, _names(options.labels) or None)
    task = getattr(options, "task", None) or _task_of(manifest.path)
    target = None if options.target is None else open_manifest(options.target, ())
    wanted = Wanted(
        _names(options.views), _names(options.balance), options.per_entry, options.encoder, target, options.clusters,
        options.cache_px,
    )  # fmt: skip
    print(f"curate {task.name}: {manifest.path}, {len(manifest):,} cases -> {options.out}", flush=True)
    done = curate_stage(manifest, task, options.out, wanted)
    for kind, count in done.dropped.items():
        print(f"{count:8,} dropped: {kind}")
    if len(done.entries):
        print(f"\nbalance, {options.per_entry:,} cases per entry; the rarest entry of a patient decides:")
        print(done.entries.head(SHOWN).to_string(index=False, formatters={"p": "{:.3g}".format}))
        if len(done.entries) > SHOWN:
            print(f"and {len(done.entries) - SHOWN:,} rarer entries, in curation.json")
        print()
    for note in done.notes:
        print(f"note: {note}")
    print(f"{options.out / PAGE}: the same to read, with findings and groups before and after.")
    print(
        f"{options.out / MANIFEST}: {len(done.manifest):,} of {len(manifest):,} cases; {options.out / DROPPED} says of "
        "each other one why. For pre-training: evaluate on the archive's own manifest."
    )


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _task_of(manifest: Path) -> Any:
    """Return the task of a manifest by what its cases are; that of images where it says nothing."""
    from ..datasets.manifest.contents import holds_of
    from ..tasks import all_tasks, load

    holds = holds_of(manifest) or "image"
    tasks = [task for task in all_tasks() if task.holds == holds]
    return next((task for task in tasks if task.name == f"{holds}s"), tasks[0] if tasks else load("images"))
