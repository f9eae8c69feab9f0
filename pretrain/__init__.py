"""Pre-training: masked reconstruction, DINO, and methods of one's own. Parts are imported when they are first used."""

from typing import Any

__all__ = ["Decoder", "Dino", "MaskedAutoencoder", "Method", "Pretrain", "PretrainRecipe", "draw_masks", "pretrain"]


def __getattr__(name: str) -> Any:
    """Return a public part of this room; recipes need no torch."""
    if name in ("Decoder", "Dino", "Pretrain", "PretrainRecipe"):
        from . import recipe as module
    elif name == "MaskedAutoencoder":
        from . import mae as module
    elif name == "Method":
        from . import method as module
    elif name == "draw_masks":
        from . import masking as module
    elif name == "pretrain":
        from .. import train as module
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
