"""Options of units larger than an image, which several verbs share; nothing heavy is imported for them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..eval.units import Rule
    from .units import Asked

UNITS = ("study", "patient", "case")  # as `datasets.manifest.units`


def add_units(parser: Any, what: str, more: str = "", units: Sequence[str] = UNITS) -> None:
    """Add the options.

    Args:
        parser: The verb's parser.
        what: What `--unit` says, for help.
        more: What else `--unit-rule` may be.
        units: Of which.
    """
    parser.add_argument("--unit", choices=units, help=what)
    parser.add_argument(
        "--unit-rule", action="append", default=[], metavar="RULE",
        help="how the scores of a unit's images become its own: max, mean or noisy-or (1 - prod(1 - p)); for one "
        "finding Effusion=mean, the option repeated (default: max; of exclusive classes, numbers, grades, times: mean)"
        + more,
    )  # fmt: skip


def asked_units(options: Any) -> "Asked":
    """Return what the options ask for.

    Raises:
        UserError: A rule without a unit, or two for one finding.
    """
    from .units import Asked

    return Asked(options.unit, unit_rule(options))


def unit_rule(options: Any) -> "Rule":
    """Return the rules of `--unit-rule`; None of none."""
    from ..eval.units import read_unit_rules

    return read_unit_rules(options.unit_rule)
