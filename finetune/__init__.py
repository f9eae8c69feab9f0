"""Fine-tuning, probes and adaptation of encoders. Parts are imported when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..train import finetune
    from .losses import masked_bce, masked_cross_entropy
    from .recipe import Finetune, View

__all__ = ["Finetune", "View", "finetune", "masked_bce", "masked_cross_entropy"]
_PLACES = {"Finetune": ".recipe", "View": ".recipe", "finetune": "..train"}


def __getattr__(name: str) -> Any:
    """Return a public part of this room; recipes need no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES.get(name, ".losses"), __name__), name)


def __dir__() -> list[str]:
    return __all__
