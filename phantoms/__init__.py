"""Invented patients in the layouts of real data sets: chest X-rays, eyes in ultrasound, slides."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .histology import Histology as Histology
    from .ocular import eye_phantom as eye_phantom
    from .ocular import write_erdes as write_erdes
    from .radiographs import chest_phantom as chest_phantom
    from .radiographs import write_chestxray14 as write_chestxray14
    from .slides import write_camelyon16 as write_camelyon16
    from .slides import write_pyramid as write_pyramid
    from .slides import write_slide_folder as write_slide_folder

# The file of the public names; it is imported when one of them is first used.
_FILES = {
    "radiographs": "chest_phantom write_chestxray14",
    "ocular": "eye_phantom write_erdes",
    "histology": "Histology",
    "slides": "write_camelyon16 write_pyramid write_slide_folder",
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
