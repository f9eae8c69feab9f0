"""Invented patients in the layouts of real data sets: chest X-rays, eyes in ultrasound, slides."""

from typing import TYPE_CHECKING

from ..core.lazy import public_names

if TYPE_CHECKING:
    from .histology import Histology as Histology
    from .ocular import eye_phantom as eye_phantom
    from .ocular import write_erdes as write_erdes
    from .radiographs import chest_phantom as chest_phantom
    from .radiographs import write_chestxray14 as write_chestxray14
    from .slides import write_camelyon16 as write_camelyon16
    from .slides import write_pyramid as write_pyramid
    from .slides import write_slide_folder as write_slide_folder

__getattr__, __dir__, __all__ = public_names(
    __name__,
    {
        ".radiographs": "chest_phantom write_chestxray14",
        ".ocular": "eye_phantom write_erdes",
        ".histology": "Histology",
        ".slides": "write_camelyon16 write_pyramid write_slide_folder",
    },
)
