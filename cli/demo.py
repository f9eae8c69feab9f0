"""`clinvit demo`: all stages on invented data."""

from pathlib import Path

from ..stages.task import Task
from ..tasks import load, names
from .parser import Parser

SUMMARY = "all stages on invented data: phantoms to report, offline, on 2 CPU cores"


def with_demo() -> list[str]:
    """Return the names of the tasks that have a demo."""
    return [name for name in names() if type(load(name)).demo is not Task.demo]


def add_arguments(parser: Parser, task: object) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "task", nargs="?", default="thorax", choices=[*names(), "all"], metavar="TASK",
        help=f"{', '.join(with_demo())}, or all of them (default: thorax)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, help="folder to write (default: clinvit-demo/TASK; of `all`: clinvit-demo, a folder a task)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the invented data and of the training")


def run(options) -> None:
    """Run one demo, or all, each in a folder of its own: two demos in one would take each other's runs for theirs."""
    everything = Path("clinvit-demo")
    if options.task != "all":
        options.task.demo(options.out or everything / options.task.name, options.seed)
        return
    for name in with_demo():
        load(name).demo((options.out or everything) / name, options.seed)
