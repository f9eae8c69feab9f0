"""Pre-training: masked reconstruction, DINO, and methods of one's own. Parts are imported when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..train import pretrain
    from .mae import MaskedAutoencoder
    from .masking import draw_masks
    from .method import Method
    from .recipe import Decoder, Dino, Pretrain, PretrainRecipe

__all__ = ["Decoder", "Dino", "MaskedAutoencoder", "Method", "Pretrain", "PretrainRecipe", "draw_masks", "pretrain"]
_PLACES = {"MaskedAutoencoder": ".mae", "Method": ".method", "draw_masks": ".masking", "pretrain": "..train"}


def __getattr__(name: str) -> Any:
    """Return a public part of this room; recipes need no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES.get(name, ".recipe"), __name__), name)


def __dir__() -> list[str]:
    return __all__
