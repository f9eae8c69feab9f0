"""The one Vision Transformer, for images and clips: blocks, sizes, positions, and its weights in and out."""

from typing import TYPE_CHECKING

from ..core.lazy import public_names

if TYPE_CHECKING:
    from .encoder import EncoderCard as EncoderCard
    from .encoder import load_encoder as load_encoder
    from .encoder import open_vit as open_vit
    from .encoder import read_encoder_card as read_encoder_card
    from .encoder import save_encoder as save_encoder
    from .sizes import Architecture as Architecture
    from .sizes import Model as Model
    from .sizes import architecture as architecture
    from .vit import ViT as ViT
    from .weights import LoadReport as LoadReport
    from .weights import read_checkpoint as read_checkpoint

__getattr__, __dir__, __all__ = public_names(
    __name__,
    {
        ".sizes": "Architecture Model architecture",
        ".vit": "ViT",
        ".encoder": "EncoderCard load_encoder open_vit read_encoder_card save_encoder",
        ".weights": "LoadReport read_checkpoint",
    },
)
