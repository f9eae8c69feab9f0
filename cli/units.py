"""Options of units larger than an image, which several verbs share."""

from typing import Any

from .parser import Parser

UNITS = ("study", "patient", "case")  # as `datasets.manifest.units`, which is imported only where it is needed


def add_units(parser: Parser, what: str) -> None:
    """Add the options.

    Args:
        parser: The verb's parser.
        what: What `--unit` says, for help.
    """
    parser.add_argument("--unit", choices=UNITS, help=what)
    parser.add_argument(
        "--unit-rule", action="append", default=[], metavar="RULE",
        help="how the scores of a unit's images become its own: max, mean or noisy-or (1 - prod(1 - p)); for one "
        "finding Effusion=mean, the option repeated (default: max; of exclusive classes, numbers, grades, times: mean)",
    )  # fmt: skip


def unit_rule(options: Any):
    """Return the rules of `--unit-rule`; None of none."""
    from ..eval.units import read_unit_rules

    return read_unit_rules(options.unit_rule)
