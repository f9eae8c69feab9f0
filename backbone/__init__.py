"""The one Vision Transformer, for images and clips: blocks, sizes, positions, and its weights in and out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

# The file of the public names; it is imported when one of them is first used.
_FILES = {
    "sizes": "Architecture Model architecture",
    "vit": "ViT",
    "encoder": "EncoderCard load_encoder open_vit read_encoder_card save_encoder",
    "weights": "LoadReport read_checkpoint",
}
_PUBLIC = {name: file for file, names in _FILES.items() for name in names.split()}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
