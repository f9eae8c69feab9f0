"""How large files may be, and how long reading one may take.

Bombs are refused by what they declare, before anything is allocated. Each limit is an environment variable, which the
message of a refusal names.
"""

import math
import os
from dataclasses import dataclass, replace

from ...core.errors import UserError


@dataclass(frozen=True)
class Limit:
    """A limit.

    Attributes:
        variable: The environment variable that sets another one.
        default: Without it.
        unit: For messages.
    """

    variable: str
    default: float
    unit: str

    def value(self) -> float:
        """Return the limit that holds now.

        Raises:
            UserError: The variable holds no number above 0.
        """
        text = os.environ.get(self.variable, "")
        if not text:
            return self.default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not value > 0:
            raise UserError(f"{self.variable}={text}: not a number above 0 ({self.unit}).")
        return value

    def fixed(self) -> "Limit":
        """Fix the limit that holds now as default, for a process that may have another environment."""
        return replace(self, default=self.value())

    def exceeded(self, size: float, limit: float | None = None) -> bool:
        """Return whether a size is too large, by the caller's `limit` if there is one, else by this one."""
        return size > (self.value() if limit is None else limit)

    def text(self, limit: float | None = None) -> str:
        """Return the limit, for the message of a refusal: `at most 200 million px: CLINVIT_...`."""
        if limit is not None:
            return f"at most {limit:g} {self.unit}"
        return f"at most {self.value():g} {self.unit}; {self.variable} sets another limit"


# Of one image; of a frame of a clip; frames of a clip; a clip in memory; a deflated DICOM file, inflated; a slide;
# each array of a feature file; the memory of a reading process beyond its libraries; the time for reading one file,
# and for going through a whole slide.
IMAGE_MEGAPIXELS = Limit("CLINVIT_MAX_IMAGE_MEGAPIXELS", 200, "million px")
FRAME_MEGAPIXELS = Limit("CLINVIT_MAX_FRAME_MEGAPIXELS", 40, "million px")
FRAMES = Limit("CLINVIT_MAX_FRAMES", 20_000, "frames")
CLIP_GB = Limit("CLINVIT_MAX_CLIP_GB", 8, "GB")
INFLATED_GB = Limit("CLINVIT_MAX_INFLATED_GB", 8, "GB")
SLIDE_GIGAPIXELS = Limit("CLINVIT_MAX_SLIDE_GIGAPIXELS", 100, "billion px")
FEATURES_GB = Limit("CLINVIT_MAX_FEATURES_GB", 16, "GB")
READ_GB = Limit("CLINVIT_READ_GB", 24, "GB")
READ_SECONDS = Limit("CLINVIT_READ_SECONDS", 300, "seconds")
SLIDE_SECONDS = Limit("CLINVIT_SLIDE_SECONDS", 3600, "seconds")
