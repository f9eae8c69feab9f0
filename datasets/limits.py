"""How large files may be, and how long reading one may take: bombs are refused by what they declare, before anything
is allocated. Each limit is an environment variable, which the message of a refusal names.
"""

import math
import os
from dataclasses import dataclass

from ..errors import UserError


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
        """What holds now.

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


PICTURE_MEGAPIXELS = Limit("CLINVIT_MAX_PICTURE_MEGAPIXELS", 200, "million px of one picture")
FRAME_MEGAPIXELS = Limit("CLINVIT_MAX_FRAME_MEGAPIXELS", 40, "million px of a clip's frame")
FRAMES = Limit("CLINVIT_MAX_FRAMES", 20_000, "frames of a clip")
CLIP_GB = Limit("CLINVIT_MAX_CLIP_GB", 8, "GB of a clip in memory")
SLIDE_GIGAPIXELS = Limit("CLINVIT_MAX_SLIDE_GIGAPIXELS", 100, "billion px of a slide")
FEATURES_GB = Limit("CLINVIT_MAX_FEATURES_GB", 16, "GB of a feature file's arrays")
WEIGHTS_GB = Limit("CLINVIT_MAX_WEIGHTS_GB", 64, "GB of a file of weights")
READ_SECONDS = Limit("CLINVIT_READ_SECONDS", 300, "seconds for reading one file")


def read_seconds() -> float:
    """The longest time that reading one file may take."""
    return READ_SECONDS.value()
