"""What a report shows beside the metrics: what is known of the models and the cases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ...core.errors import UserError
from ..localisation.image_map import ImageMap
from ..localisation.tiles import Localisation
from ..statistics.results import Results
from .section import Section


@dataclass(frozen=True, eq=False)
class Context:
    """Hold what predictions tables do not say; all of it may be missing.

    Attributes:
        unit: What a case is, in the singular: image, slide, clip.
        thresholds: Model name to its stored thresholds by label, which hold where the evaluation has no rule. A model
            without them gets thresholds from the `val` rows of its own table.
        rules: Model name to the rules by which its own thresholds were chosen, by label, for the same.
        provenance: Model name to what it was made of and by (recipe, versions, fingerprints), shown as it is.
        meaning: Label to the meaning of a 1.
        image: Case id to an image, (H, W) or (H, W, 3), uint8, uint16 or float in 0..1; None if there is none.
        image_map: Case id and label to the map of what the first model looked at; None if there is none.
        localisation: Model name to where it saw it, of whole slides; the report gets a section on it.
        slide_pages: Slide id to the address of its page (`slide_page`), relative to the report, for that section's
            links.
        sections: Gives further parts of the report, from the results; of numbers, grades or times from None.
        reads: Ratings of readers, cells as text (`statistics.readers`); None for no readers.
        facts: What the authors say for the checklists, text by key of `checklist_items.AUTHORS`.

    Raises:
        UserError: Slide pages without localisation.
    """

    unit: str = "case"
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    meaning: Mapping[str, str] = field(default_factory=dict)
    image: Callable[[str], np.ndarray | None] | None = None
    image_map: Callable[[str, str], ImageMap | None] = lambda case, label: None
    localisation: Mapping[str, Localisation] = field(default_factory=dict)
    slide_pages: Mapping[str, str] = field(default_factory=dict)
    sections: Callable[[Results | None], Sequence[Section]] = lambda found: ()
    reads: pd.DataFrame | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if self.slide_pages and not self.localisation:
            raise UserError("Slide pages are linked from the section on localisation: give the localisation too.")
