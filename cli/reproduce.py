"""`clinvit reproduce`: a table of the papers, measured beside printed."""

from pathlib import Path
from typing import Any

from ..core.errors import RunError, UserError
from ..tasks import all_tasks
from .options import say
from .parser import Parser

SUMMARY = "reproduce a table of the papers: measured, with interval, beside printed"
RECIPES = "any"  # options that are left, such as --run.devices 2, change every recipe that knows them


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("table", nargs="?", metavar="TABLE", help="such as thorax/main; --list shows all")
    parser.add_argument("--list", action="store_true", help="every table and row, with the paper's values")
    parser.add_argument("--data", type=Path, help="manifest, its folder, or the data set as downloaded")
    parser.add_argument("--pretrain-data", type=Path, help="the same for pre-training (default: that of --data)")
    parser.add_argument("--rows", help="rows to run, separated by commas (default: all that can be run)")
    parser.add_argument(
        "--weights", action="append", default=[], metavar="ROW=PATH",
        help="an encoder (starts at fine-tuning) or a model (starts at prediction) for a row; may be repeated",
    )  # fmt: skip
    parser.add_argument("--download", action="store_true", help="rows that name timm weights may fetch them")
    parser.add_argument(
        "--phantoms", action="store_true", help="the same table small, on invented data; nothing is compared"
    )
    parser.add_argument(
        "--smoke", action="store_true",
        help="on your own data: one epoch of every training, to see that all goes through; nothing is compared",
    )  # fmt: skip
    parser.add_argument(
        "--estimate", action="store_true", help="only say what each training would cost here: time, memory, FLOPs"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/reproduce"),
        help="folder; repeating the command continues (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap by patient (default: 2000)")


def run(options) -> None:
    """Run the rows asked for, and print the table.

    Raises:
        RunError: A row failed.
    """
    from ..stages.reproduce import catalogue

    if options.list:
        print(catalogue.listing(all_tasks()))
        return
    if options.table is None:
        raise UserError("name a table, such as thorax/main; `clinvit reproduce --list` shows all.")
    table, task = catalogue.find_table(options.table, all_tasks())
    weights: dict[str, list[Path]] = {}
    for text in options.weights:
        row, sign, path = text.partition("=")
        if not sign:
            raise UserError(f"--weights {text!r}: write ROW=PATH.")
        weights.setdefault(row, []).append(Path(path))
    from ..stages.reproduce.run import Request, estimated, reproduce

    request = Request(
        table, task, options.out, options.data, options.pretrain_data,
        options.rows.split(",") if options.rows else None, weights, options.phantoms, options.download,
        options.resamples, options.rest, options.smoke,
    )  # fmt: skip
    if options.estimate:
        print(estimated(request))
        return
    folder, results = reproduce(request)
    say(f"{(folder / 'table.md').read_text(encoding='utf-8')}\ntable: {folder / 'table.html'}")
    failed = [result.name for result in results if result.state == "failed"]
    if failed:
        raise RunError(f"{len(failed)} of {len(results)} rows failed: {', '.join(failed)}; the table says why.")
