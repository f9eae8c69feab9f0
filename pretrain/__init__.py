"""Pre-training: masked reconstruction, DINO, and methods of one's own. Parts are imported when they are first used."""

from typing import TYPE_CHECKING

from ..core.lazy import public_names

if TYPE_CHECKING:
    from ..train import pretrain as pretrain
    from .mae import MaskedAutoencoder as MaskedAutoencoder
    from .masking import draw_masks as draw_masks
    from .method import Method as Method
    from .recipe import Decoder as Decoder
    from .recipe import Dino as Dino
    from .recipe import Pretrain as Pretrain
    from .recipe import PretrainRecipe as PretrainRecipe

__getattr__, __dir__, __all__ = public_names(
    __name__,
    {
        ".mae": "MaskedAutoencoder",
        ".masking": "draw_masks",
        ".method": "Method",
        ".recipe": "Decoder Dino Pretrain PretrainRecipe",
        "..train": "pretrain",
    },
)
