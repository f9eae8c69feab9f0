"""Ranges of numbers, stated where a recipe's fields are and checked by one function when the recipe is made."""

import dataclasses
import math
import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from .errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Range:
    """What a number of a recipe may be; NaN and infinity never.

    Attributes:
        low: Least value.
        high: Greatest value; infinity for none.
        exclude: Which ends do not belong to it: ``, `low`, `high` or `both`.
        ordered: Several numbers must not fall.
    """

    low: float
    high: float = math.inf
    exclude: str = ""
    ordered: bool = False

    def __contains__(self, value: float) -> bool:
        """Return whether a number lies within."""
        above = value > self.low if self.exclude in ("low", "both") else value >= self.low
        below = value < self.high if self.exclude in ("high", "both") else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        """Return the range in words."""
        least = f"above {self.low:g}" if self.exclude in ("low", "both") else f"from {self.low:g}"
        if math.isinf(self.high):
            return least if least.startswith("above") else f"{least} on"
        most = f"below {_number(self.high)}" if self.exclude in ("high", "both") else _number(self.high)
        return f"{least} to {most}"


def within(low: float, high: float = math.inf, exclude: str = "", ordered: bool = False) -> dict[str, Range]:
    """Return the `metadata` of a dataclass field whose numbers lie within a range (see `Range`)."""
    return {"range": Range(low, high, exclude, ordered)}


def check_ranges(part: "DataclassInstance", group: str = "") -> None:
    """Refuse a part of a recipe one of whose numbers is of the wrong kind or out of its range.

    Args:
        part: A dataclass; its numeric fields state their ranges by `within`.
        group: Dotted name that the part has in a recipe, which messages name a field by; empty for the recipe itself.

    Raises:
        UserError: The field, its value, and what it may be.
    """
    for field in dataclasses.fields(part):
        kind = number_kind(field.type)
        if kind is not None:
            name = f"{group}.{field.name}" if group else field.name
            value, allowed = getattr(part, field.name), field.metadata.get("range")
            if not _is_right(value, field.type, kind, allowed):
                raise UserError(f"{name} {_shown(value)} {refusal(field)}")


def refusal(field: dataclasses.Field) -> str:
    """Return what a message says of a numeric field after its name and its value: what it may be."""
    kind, allowed, several = number_kind(field.type), field.metadata.get("range"), _lengths(field.type)
    noun = "whole number" if kind is int else "number"
    counted = f"a {noun}" if several is None else f"{several} {noun}s" if several else f"one or more {noun}s"
    order = ", the lesser first" if allowed is not None and allowed.ordered else ""
    null = ", or null" if type(None) in get_args(field.type) else ""
    return f"is out of range: {counted} {allowed or 'that is finite'}{order}{null}."


def number_kind(annotation: Any) -> type | None:
    """Return `int` or `float` for the type of a number, of several or of one that may be null; None for others."""
    leaves = _leaves(annotation)
    return next((kind for kind in (float, int) if kind in leaves), None)


def _leaves(annotation: Any) -> set:
    parts = get_args(annotation)
    return set().union(*(_leaves(part) for part in parts)) if parts else {annotation}


def _is_right(value: Any, annotation: Any, kind: type, allowed: Range | None) -> bool:
    several = _lengths(annotation)
    if value is None and type(None) in get_args(annotation):
        return True
    if several is not None and (not isinstance(value, tuple | list) or not value or several not in (0, len(value))):
        return False
    items = list(value) if several is not None else [value]
    if not all(_is_number(item, kind) and (allowed is None or item in allowed) for item in items):
        return False
    return allowed is None or not allowed.ordered or items == sorted(items)


def _lengths(annotation: Any) -> int | None:
    """Return how many numbers a tuple has, 0 for one or more; None for a single number."""
    tuples = [part for part in (annotation, *get_args(annotation)) if getattr(part, "__origin__", None) is tuple]
    if not tuples:
        return None
    parts = get_args(tuples[0])
    return 0 if Ellipsis in parts else len(parts)


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, numbers.Integral if kind is int else numbers.Real) and math.isfinite(value)


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return f"{value:.10g}"
