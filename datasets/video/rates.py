"""Whether clips are alike in time: their frame rates, and whether folders of frames are whole.

Where rates differ, the same number of frames shows another span of time.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ...core.platform import usable_cores
from ..loading.isolation import isolated
from .clips import clip_info
from .frame_folder import missing_numbers

LOOKS = 40  # clips that are opened
FACTOR = 1.5  # between the least and the greatest rate, above which a warning is given


def clip_rate(path: Path) -> float | None:
    """Return the frames a second of a clip, None where they are not known.

    Raises:
        DataError: The clip cannot be opened.
    """
    return clip_info(path).fps


def rate_warning(files: Sequence[Path], looks: int = LOOKS) -> str:
    """Warn if the frame rates of clips differ by more than `FACTOR`; empty where they do not.

    Args:
        files: The clips.
        looks: How many are opened, spread evenly; those that cannot be opened tell nothing, and are named elsewhere.
    """
    chosen = np.unique(np.linspace(0, len(files) - 1, min(looks or len(files), len(files))).astype(int))
    read = list(isolated(clip_rate, [files[row] for row in chosen], usable_cores()))
    rates = [rate for rate in read if rate and not isinstance(rate, DataError)]
    if not rates or max(rates) <= FACTOR * min(rates):
        return ""
    return (
        f"frame rates of {len(rates):,} clips differ, from {min(rates):.4g} to {max(rates):.4g} frames a second: equal "
        f"numbers of frames span unequal times. --data.clip.fps {min(rates):.3g} samples all clips by time."
    )


def frames_warning(files: Sequence[Path]) -> str:
    """Warn of folders of frames in which numbers are left out; empty where none is.

    Args:
        files: The clips, of which only folders are looked at.
    """
    gaps = {file: missing for file in files if file.is_dir() and (missing := missing_numbers(file))}
    if not gaps:
        return ""
    first, missing = next(iter(gaps.items()))
    which = f"{missing[0]}" + (f" and {len(missing) - 1:,} more" if len(missing) > 1 else "")
    return (
        f"{len(gaps):,} folder{'s' * (len(gaps) > 1)} of frames lack{'s' * (len(gaps) == 1)} numbers: {first} has no "
        f"frame {which}. What there is is read as if nothing were between."
    )
