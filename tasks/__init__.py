"""The tasks: each folder here with a `task.py` is one, and is found by that."""

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..stages.task import Task


@cache
def names() -> tuple[str, ...]:
    """Return the names of all tasks, those of the papers first, then by the alphabet."""
    order = ("thorax", "slides", "erdes")
    folders = [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg]
    return tuple(sorted(folders, key=lambda name: (order.index(name) if name in order else len(order), name)))


def load(name: str) -> "Task":
    """Return a task by its name; only its own folder is imported."""
    return importlib.import_module(f".{name}.task", __package__).TASK


def all_tasks() -> Iterator["Task"]:
    """Yield every task."""
    return map(load, names())
