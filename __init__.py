"""ClinViT: one Vision Transformer from unlabelled clinical images to a clinical report."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load", "vit"]

if TYPE_CHECKING:
    from .api import load, vit


def __getattr__(name: str) -> Any:
    """`load` and `vit`, imported when they are first used: the command must start without torch."""
    if name in ("load", "vit"):
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module 'clinvit' has no attribute {name!r}")
