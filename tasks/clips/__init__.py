"""The neutral task for clips: anybody's classes in anybody's videos, and VideoMAE V2's own recipes."""

from . import recipes

__all__ = ["recipes"]
