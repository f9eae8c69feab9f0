"""ClinViT: one Vision Transformer from unlabelled clinical images to a clinical report.

The rooms `clinvit.pretrain`, `clinvit.finetune`, `clinvit.eval`, `clinvit.backbone`, `clinvit.datasets` and
`clinvit.tasks` name their public parts.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "evaluate", "load", "vit"]

if TYPE_CHECKING:
    from .api import load, vit
    from .eval import compare, evaluate


def __getattr__(name: str) -> Any:
    """Return a verb, imported when it is first used: the command must start without torch."""
    if name in ("load", "vit"):
        from . import api

        return getattr(api, name)
    if name in ("compare", "evaluate"):
        from . import eval as evaluation

        return getattr(evaluation, name)
    raise AttributeError(f"module 'clinvit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
