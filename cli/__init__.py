"""The command `clinvit`: a file per verb."""

from typing import TYPE_CHECKING

from ..core.lazy import public_names

if TYPE_CHECKING:
    from .command import main as main

# Imported when it is first used: `clinvit-runtime` shares the parser here, and has no tasks.
__getattr__, __dir__, __all__ = public_names(__name__, {".command": "main"})
