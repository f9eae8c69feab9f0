"""Training files that could not be read: named while training, kept in the run folder, counted on the model's card."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ...core.errors import masked
from ..manifest.cells import write_csv
from ..manifest.tables import Manifest

LEFT_OUT = "unreadable.csv"
_NAMED = 3  # files named on the screen
_IDS = 20  # ids on a card


def say_left_out(bad: Mapping[int, str], cases: int) -> None:
    """Warn of files that are left out before training starts.

    Args:
        bad: Row to why it cannot be read.
        cases: How many there were.
    """
    if not bad:
        return
    print(
        f"warning: {len(bad):,} of {cases:,} training files cannot be read and are left out (run.max_bad); they will "
        f"stand in {LEFT_OUT}:",
        file=sys.stderr,
    )
    for reason in list(bad.values())[:_NAMED]:
        print(f"  {reason}", file=sys.stderr)
    if len(bad) > _NAMED:
        print(f"  ... and {len(bad) - _NAMED:,} more", file=sys.stderr)
    sys.stderr.flush()


def write_left_out(folder: Path, manifest: Manifest, bad: Mapping[int, str]) -> dict:
    """Write `unreadable.csv` into a run folder: `id,reason`, without names of files; return what the card says.

    Args:
        folder: Of the run.
        manifest: The cases.
        bad: Row of the manifest to why it could not be read, before or while training.

    Returns:
        `unreadable_train`, how many; `unreadable_ids`, the first of them.
    """
    ids = manifest.table["id"].tolist()
    if bad:
        paths = manifest.table["path"].tolist()
        files = manifest.files()
        rows = [
            (ids[row], masked(masked(reason, str(files[row]), ids[row]), paths[row], ids[row]))
            for row, reason in sorted(bad.items())
        ]
        write_csv(folder / LEFT_OUT, pd.DataFrame(rows, columns=["id", "reason"]))
    named = [ids[row] for row in sorted(bad)[:_IDS]]
    return {"unreadable_train": len(bad)} | ({"unreadable_ids": named} if named else {})
