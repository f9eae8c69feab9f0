"""The thorax task: several findings on chest X-rays."""

from . import recipes

__all__ = ["recipes"]
