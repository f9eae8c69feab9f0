"""Where the files of a manifest may lie: in its own folder, or below a root that the JSON beside it names.

A manifest from elsewhere could name any file of this machine as an image, and a report would show it. It may come
with a JSON of its own: the environment variable `CLINVIT_ROOTS` holds the folders that no root may lead out of.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ...core.errors import DataError

VARIABLE = "CLINVIT_ROOTS"


def refuse_outside(manifest: Path, column: str, files: pd.Series, roots: Iterable[str]) -> None:
    """Raise if a file leads out of the manifest's folder and of all roots; links are followed.

    Args:
        manifest: The CSV file.
        column: Named in the message.
        files: Paths, absolute or relative to the manifest's folder; empty ones are left out.
        roots: Further folders, absolute or relative to it.

    Raises:
        DataError: The message names the first row as a spreadsheet counts it, and both remedies; or a root that
            `CLINVIT_ROOTS` does not allow.
    """
    base = manifest.parent.resolve()
    allowed = [base, *((base / root).resolve() for root in roots)]
    if VARIABLE in os.environ:
        granted = [base, *(Path(each).resolve() for each in os.environ[VARIABLE].split(os.pathsep) if each)]
        for root in allowed:
            if not any(root.is_relative_to(folder) for folder in granted):
                raise DataError(
                    f"{manifest.with_suffix('.json')}: its root {root} is not below a folder of {VARIABLE} "
                    f"({os.environ[VARIABLE] or 'empty'}). If its files may be read, add the folder there."
                )
    starts = tuple(f"{folder}/".replace("//", "/") for folder in allowed)
    folders: dict[str, str] = {}  # as written -> where it leads; there are few
    for row, file in enumerate(files):
        if "\0" in file:
            raise DataError(f"{manifest}: row {row + 2}: the {column} {file!r} is no path. Write the table again.")
        folder, _, name = file.rpartition("/")
        if folder not in folders:
            folders[folder] = str((base / (folder or "/" * file.startswith("/"))).resolve())
        place = f"{folders[folder]}/{name}"
        # One look at the disk per file: there may be a hundred thousand.
        if name in ("", ".", "..") or os.path.islink(place):  # noqa: PTH114
            place = str(Path(place).resolve())
        if file and not f"{place}/".startswith(starts):
            root = Path(place).parent
            raise DataError(
                f"{manifest}: row {row + 2}: the {column} {file!r} leads out of the manifest's folder, to {place}. If "
                f'that is meant, prepare with --data-root {root}, or write "roots": ["{root}"] into '
                f"{manifest.with_suffix('.json').name} beside it."
            )
