"""The task packages. Each offers recipes, layouts and a demo; `load` imports one when it is asked for."""

import importlib
from types import ModuleType

NAMES = ("thorax", "slides", "erdes")


def load(name: str) -> ModuleType:
    """The module `clinvit.tasks.<name>.task`, which names what the command needs of a task."""
    return importlib.import_module(f".{name}.task", __package__)
