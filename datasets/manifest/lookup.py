"""Files of a table that are named without folder or suffix, in other capitals or another Unicode form."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ...core.errors import DataError
from .inventory import note


def found_files(
    source: Path, cells: pd.Series, root: Path, table: pd.DataFrame, elsewhere: Sequence[Path] = ()
) -> pd.Series:
    """Return paths relative to `root`, those that are not there replaced by the one file below that they mean.

    A name is looked for as it is, then by its last folders, then without its suffix; capitals and Unicode forms
    do not count. What is found so is said in the notes of `table`; what is not found stays as it is.

    Args:
        source: The table, named in messages.
        cells: Relative to `root`; '' is no file.
        root: The folder.
        table: Gets the notes.
        elsewhere: Further folders that are looked in.

    Raises:
        DataError: A name fits several files.
    """
    missing = [place for place, name in enumerate(cells) if name and not (root / name).exists()]
    if not missing:
        return cells
    index = _index(root)
    for folder in elsewhere:
        for name, files in _index(folder).items():
            index[name] += [os.path.relpath((folder / file).resolve(), root.resolve()) for file in files]
    found, replaced = cells.to_numpy(dtype=object, copy=True), []
    for place in missing:
        name = cells.iloc[place]
        fits = sorted(set(_fits(name, index)))
        if len(fits) > 1:
            raise DataError(
                f"{source}: row {place + 2}: {name!r} fits {len(fits)} files, {fits[0]} and {fits[1]}. Give the path "
                f"below {root}."
            )
        if fits:
            found[place] = fits[0]
            replaced.append((name, fits[0]))
    if replaced:
        first, file = replaced[0]
        where = " and ".join(map(str, (root, *elsewhere)))
        note(table, f"{len(replaced):,} files were found below {where} by their names; the first: {first!r} is {file}.")
    return pd.Series(found, cells.index, dtype=str)


def share_found(cells: pd.Series, root: Path) -> float:
    """Return the share of a column's filled cells that name files below a folder."""
    names = cells.str.strip().str.replace("\\", "/", regex=False)
    names = names[names != ""].iloc[:200]
    if names.empty or names.nunique() < len(names) / 2:
        return 0.0
    index = _index(root)
    return sum(bool(_fits(name, index)) for name in names) / len(names)


def _index(root: Path) -> dict[str, list[str]]:
    """Return the files below a folder by their plain names, with and without suffix; links are not followed."""
    index: dict[str, list[str]] = defaultdict(list)
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                path = (Path(folder) / name).relative_to(root).as_posix()
                index[_plain(name)].append(path)
                if "." in name:
                    index[_plain(name.rpartition(".")[0])].append(path)
    return index


def _fits(name: str, index: dict[str, list[str]]) -> Sequence[str]:
    """Return the files that a name may mean: those that share most of its folders, counted from the end."""
    parts = _plain(name).strip("/").split("/")
    candidates = index.get(parts[-1], [])
    stem = parts[-1].rpartition(".")
    if not candidates and stem[1] and len(stem[2]) <= 5 and not stem[2].isdigit():
        candidates = index.get(stem[0], [])  # saved anew in another format
    best = max((_shared(parts, path) for path in candidates), default=0)
    return [path for path in candidates if _shared(parts, path) == best]


def _shared(parts: list[str], path: str) -> int:
    """Return how many folders before the name agree."""
    shared = 0
    for one, other in zip(parts[-2::-1], _plain(path).split("/")[-2::-1]):
        if one != other:
            break
        shared += 1
    return shared


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
