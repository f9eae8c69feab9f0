"""Fine-tuning, probes and adaptation of encoders. Parts are imported when they are first used."""

from typing import Any

__all__ = ["Finetune", "View", "finetune", "masked_bce", "masked_cross_entropy"]


def __getattr__(name: str) -> Any:
    """Return a public part of this room; recipes need no torch."""
    if name in ("Finetune", "View"):
        from . import recipe as module
    elif name in ("masked_bce", "masked_cross_entropy"):
        from . import losses as module
    elif name == "finetune":
        from .. import train as module
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
