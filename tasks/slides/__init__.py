"""Whole slides: multiple-instance learning from gigapixel files to heat maps (Self-ViT-MIL)."""

from . import recipes

__all__ = ["recipes"]
