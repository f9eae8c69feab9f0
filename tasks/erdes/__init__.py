"""The ocular-ultrasound task: retinal detachment and the macula (ERDES)."""

from . import recipes

__all__ = ["recipes"]
