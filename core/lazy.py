"""Public names of a room that are imported when they are first used: the command starts without torch or pandas."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def public_names(
    package: str, files: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: Its `__name__`.
        files: Module, relative to the package (`.recipe`), to the names it gives, separated by blanks.
    """
    home = {name: file for file, names in files.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home[name], package), name)

    return get, lambda: sorted(home), sorted(home)
