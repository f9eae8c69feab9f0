"""`clinvit acceptance`: whether predictions meet what was asked for before anybody looked."""

from pathlib import Path
from typing import Any

from ..core.errors import UserError
from .parser import Parser
from .values import named_path

SUMMARY = "hold predictions against a target that was locked before"
LOCK = "lock"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "asked", nargs="+", metavar="TARGET.yaml PREDICTIONS | lock TARGET.yaml",
        help="the target and a predictions.csv or run folder; or `lock` and the target, before the data are looked at",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, help="manifest, where the target names subgroups")
    parser.add_argument(
        "--out", type=Path, default=Path("acceptance"), help="folder of the verdict (default: %(default)s)"
    )


def more_help(parser: Parser, task: Any, everything: bool) -> str:
    """Return a target as an example."""
    from ..eval import target

    return target.__doc__ or ""


def run(options) -> None:
    """Lock the target, or write the verdict."""
    if len(options.asked) != 2:
        raise UserError(
            "write `clinvit acceptance lock TARGET.yaml`, later `clinvit acceptance TARGET.yaml PREDICTIONS`."
        )
    first, second = options.asked
    if first == LOCK:
        _lock(Path(second))
        return
    from ..stages.acceptance import acceptance_stage

    predictions = named_path(second)[1]
    print(f"acceptance: {predictions} against {first} -> {options.out}")
    found = acceptance_stage(Path(first), predictions, options.out, options.data)
    print(*found["sentences"], *(f"warning: {text}" for text in found["warnings"]), sep="\n")
    print(f"verdict: {found['verdict']} ({options.out / 'acceptance.html'})")


def _lock(path: Path) -> None:
    from ..eval.target import lock_path, lock_target

    found = lock_target(path)
    print(f"{lock_path(path)}: locked on {found.date}. Write into the protocol: SHA-256 {found.sha256}")
