"""Fine-tuning, probes and adaptation of encoders. Parts are imported when they are first used."""

from typing import TYPE_CHECKING

from ..core.lazy import public_names

if TYPE_CHECKING:
    from ..train import finetune as finetune
    from .losses import masked_bce as masked_bce
    from .losses import masked_cross_entropy as masked_cross_entropy
    from .recipe import Finetune as Finetune
    from .recipe import View as View

__getattr__, __dir__, __all__ = public_names(
    __name__,
    {
        ".recipe": "Finetune View",
        ".losses": "masked_bce masked_cross_entropy",
        "..train": "finetune",
    },
)
