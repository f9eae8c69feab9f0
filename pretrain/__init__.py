"""Pre-training: masked, DINO, latent prediction, or a method of one's own. Parts are imported when first used."""

from typing import TYPE_CHECKING

from ..core.lazy import public_names

if TYPE_CHECKING:
    from ..train import pretrain as pretrain
    from .jepa_recipe import Jepa as Jepa
    from .mae import MaskedAutoencoder as MaskedAutoencoder
    from .masking import draw_masks as draw_masks
    from .method import Method as Method
    from .recipe import Decoder as Decoder
    from .recipe import Dino as Dino
    from .recipe import Ibot as Ibot
    from .recipe import Pretrain as Pretrain
    from .recipe import PretrainRecipe as PretrainRecipe
    from .recipe import Start as Start
    from .report_recipe import Reports as Reports

__getattr__, __dir__, __all__ = public_names(
    __name__,
    {
        ".jepa_recipe": "Jepa",
        ".mae": "MaskedAutoencoder",
        ".masking": "draw_masks",
        ".method": "Method",
        ".recipe": "Decoder Dino Ibot Pretrain PretrainRecipe Start",
        ".report_recipe": "Reports",
        "..train": "pretrain",
    },
)
