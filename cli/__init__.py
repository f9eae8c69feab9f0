"""The command `clinvit`: a file per verb."""

from .command import main

__all__ = ["main"]
