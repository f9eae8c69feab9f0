"""The pixels of the cases of a manifest as one array, as a network sees them: for training without a run folder."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import DataError, UserError

if TYPE_CHECKING:
    from ..finetune.model import ModelCard

MOST_BYTES = 8 * 2**30


def case_pixels(card: "ModelCard", files: list[Path], why: str) -> np.ndarray:
    """Return (N, C, [T,] H, W) uint8 of files, each as its first view; all have been read before.

    Args:
        card: How they are read and shown.
        files: N files.
        why: The option that needs them, for messages.

    Raises:
        UserError: Together they are larger than 8 GiB.
        DataError: A file cannot be read any more.
    """
    from ..datasets.loading.isolation import isolated
    from ..datasets.loading.loaders import reading_workers
    from ..datasets.transforms.views import FileViews
    from ..finetune.model import input_shape

    shape = input_shape(card)
    size = len(files) * int(np.prod(shape))
    if size > MOST_BYTES:
        raise UserError(
            f"{why} holds the pixels of all {len(files):,} cases in memory, {size / 2**30:.0f} GiB; at most "
            f"{MOST_BYTES // 2**30}: take a smaller archive, or --reident head."
        )
    found = np.empty((len(files), *shape), np.uint8)
    read = isolated(FileViews(card.reader(), card.views()), files, reading_workers(-1, True))
    for row, item in enumerate(read):
        if isinstance(item, DataError):
            raise item
        found[row] = item[0][0]
    return found
