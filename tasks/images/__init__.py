"""The neutral task for images: anybody's labels on anybody's images, in colour or grey."""

from . import recipes

__all__ = ["recipes"]
