"""Data sets as they are downloaded, read into a manifest's table: what the layouts of every task share.

A task lists its own layouts and adds `own_layouts` for the kind of files it reads. Every reader takes a folder and
returns a table (`id,path,patient,split`, labels as 0, 1, NaN, facts; `path` relative to the folder) and its labels.
What was left out or decided stands in `table.attrs["notes"]`, what may spoil a result in `table.attrs["warnings"]`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ...core.errors import DataError
from .contents import contents, is_archive
from .inventory import NOT_THERE, keep_present
from .lookup import found_files
from .own import TABLE_SUFFIXES, read_class_folders, read_own_csv, tables_in
from .tables import nearest
from .unlabelled import read_unlabelled

MOST_CLASSES = 20  # more folders than this are patients, not classes


class Layout(NamedTuple):
    """One way to lay a data set out.

    Attributes:
        recognise: Does this folder look so?
        read: Folder and options (keyword-only) to (table, labels).
        needs: What must be there, for messages.
        meaning: What 1 means in every label, where the reader does not say it.
    """

    recognise: Callable[[Path], bool]
    read: Callable[..., tuple[pd.DataFrame, tuple[str, ...]]]
    needs: str
    meaning: str = ""


def own_layouts(unit: str) -> dict[str, Layout]:
    """Return the layouts of data of one's own: `csv`, `folders` and `unlabelled`.

    Args:
        unit: What a case is, as of `contents.contents`.
    """
    return {
        "csv": Layout(_is_own_csv, read_own_csv, "one CSV of your own"),
        "folders": Layout(
            partial(_is_class_folders, unit=unit),
            partial(read_class_folders, unit=unit),
            "a folder per class",
        ),
        "unlabelled": Layout(
            partial(_is_dicom_folder, unit=unit),
            partial(read_unlabelled, unit=unit),
            "files without labels, for pre-training only (taken by --layout unlabelled)",
        ),
    }


def _is_own_csv(root: Path) -> bool:
    return root.name.lower().endswith(TABLE_SUFFIXES) if root.is_file() else len(tables_in(root)) == 1


def _is_class_folders(root: Path, unit: str) -> bool:
    if not root.is_dir() or tables_in(root):
        return False
    entries = contents(root, unit, headers=False).entries
    tops = {entry.path.partition("/")[0] for entry in entries if "/" in entry.path}
    return 2 <= len(tops) <= MOST_CLASSES and not is_archive(root, entries)


def _is_dicom_folder(root: Path, unit: str) -> bool:
    """Warn of files without labels, which are taken only when asked for: a set whose CSV is missing is none."""
    if not root.is_dir() or tables_in(root):
        return False
    entries = contents(root, unit, headers=False).entries
    return bool(entries) and all(entry.is_dicom for entry in entries)


def recognise(layouts: Mapping[str, Layout], root: str | Path) -> str:
    """Return the name of the layout in this folder: the first of `layouts` that fits.

    Raises:
        DataError: Nothing is there, or nothing fits.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: no such folder.")
    for name, layout in layouts.items():
        if layout.recognise(root):
            return name
    known = "; ".join(f"{name}: {layout.needs}" for name, layout in layouts.items())
    raise DataError(f"{root}: no known layout. Looked for {known}.")


def to_manifest(
    layouts: Mapping[str, Layout],
    root: str | Path,
    layout: str | None = None,
    /,
    *,
    data_roots: Sequence[Path] = (),
    **options: object,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the data set in `root`.

    Args:
        layouts: Those of the task.
        root: The folder as downloaded (or a CSV of one's own).
        layout: A name among `layouts`. Default: recognised.
        data_roots: Further folders in which files are looked for that a table names and that are not below `root`.
        options: Of the layout's reader.

    Returns:
        The table, with `attrs["notes"]` and `attrs["warnings"]` (sentences), `attrs["meaning"]` (what 1 means) and
        `attrs["layout"]`; and its label columns.

    Raises:
        DataError: An unknown layout or option, or what the reader finds wrong.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: no such folder.")
    name = layout or recognise(layouts, root)
    if name not in layouts:
        raise DataError(f"no layout {name!r}{nearest(name, layouts)}; there are {', '.join(layouts)}.")
    read, meaning = layouts[name].read, layouts[name].meaning
    known = [p.name for p in inspect.signature(read).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise DataError(
                f"layout {name}: no option {option!r}{nearest(option, known)}; there are {', '.join(known)}."
            )
    if data_roots and "data_root" in known:
        options.setdefault("data_root", list(data_roots))
    if data_roots and "data_root" not in known and "keep_missing" in known:
        table, labels = _read_with(data_roots, read, root, options)
    else:
        table, labels = read(root, **options)
    table.attrs.setdefault("notes", [])
    table.attrs.setdefault("warnings", [])
    table.attrs.setdefault("meaning", dict.fromkeys(labels, meaning) if meaning else {})
    table.attrs["layout"] = name
    return table, labels


def _read_with(
    data_roots: Sequence[Path], read: Callable, root: Path, options: dict[str, Any]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a data set some of whose files lie elsewhere: first its table, whatever is there, then the files."""
    table, labels = read(root, **{**options, "keep_missing": True})
    table.attrs["notes"] = [each for each in table.attrs.get("notes", []) if NOT_THERE not in each]
    folder = root if root.is_dir() else root.parent
    table["path"] = found_files(root, table["path"], folder, table, data_roots)
    there = [path for path in table["path"] if path and (folder / path).exists()]
    where = " and ".join(map(str, data_roots))
    remedy = f"name the folder that they lie in instead of {where} (--data-root), "
    return keep_present(table, folder, there, bool(options.get("keep_missing")), remedy), labels
