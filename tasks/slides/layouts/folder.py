"""Slides of one's own: any tree of slides, and a CSV of labels that names them by path or by name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ....core.errors import DataError
from ....core.secret import key_name, keyed_hash, secret_key
from ....datasets.kinds import file_kind, is_dicom, is_zarr_folder
from ....datasets.manifest.contents import KINDS, Contents, contents, summary
from ....datasets.manifest.inventory import note, relative_paths, require_columns
from ....datasets.manifest.own import TABLE_SUFFIXES, only_csv, own_table, tables_in
from ....datasets.manifest.tables import UNKNOWN_CELLS, read_csv
from ....datasets.slides.dicom_series import FURTHER, NO_VOLUME
from ....datasets.slides.reading import SLIDE_SUFFIXES, slide_stem
from .columns import IDS, class_names, find_slides, slide_name, usual_columns

NAMES = "(name of the file)"  # a column that no table has


def recognise(root: Path) -> bool:
    """Return whether this is a table, or a folder with exactly one; its slides may lie elsewhere."""
    return root.name.lower().endswith(TABLE_SUFFIXES) if root.is_file() else len(tables_in(root)) == 1


def read(
    root: str | Path,
    *,
    table: str | Path | None = None,
    path_column: str = "path",
    id_column: str | None = None,
    patient_column: str = "patient",
    split_column: str = "split",
    labels: Sequence[str] | None = None,
    class_column: str | None = None,
    positive: str | None = None,
    each_file_own_patient: bool = False,
    resplit: bool = False,
    keep_missing: bool = False,
    mpp: float | None = None,
    mpp_override: float | None = None,
    seed: int = 0,
    not_labels: Sequence[str] = (),
    uncertain: str = "unknown",
    readers: str | None = None,
    blanks: str = "unknown",
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read slides with a CSV that has a row per slide.

    Args:
        root: The folder of slides, searched to the bottom; or the CSV in it.
        table: The CSV, if it is not the only one in `root`.
        path_column: Slides: a path relative to `root`, an absolute one, or a name with or without suffix; of a DICOM
            slide the folder or any file of it. Without a column of this name, `slide_id` and the like.
        id_column: Unique names. Default: `slide_id` where that names the slides, else the file's name without suffix,
            as features are stored by it; of DICOM slides a hash, for their files are often named after people.
        patient_column: Who the patient is. Without a column of this name, `case_id` and the like.
        split_column: train, val, test (or training, valid, dev, ...). May be absent: then patients are dealt out.
        labels: Columns of 0, 1 or empty. Default: every other column that holds nothing else, and is no known fact.
        class_column: A column of class names instead of labels; an empty cell is an unknown class. Default: `label`
            where it holds names.
        positive: Which of two classes is 1. Default: the one that does not read like "normal".
        each_file_own_patient: There is no patient column because no patient has two files.
        resplit: Ignore the splits of the table and deal the patients out anew.
        keep_missing: Keep rows whose file is missing.
        mpp: Microns per level-0 pixel, for rows without a cell `mpp` and slides whose file does not say it.
        mpp_override: Microns per level-0 pixel of all slides, whatever their files say: for files known to be wrong. A
            column of this name does the same for single slides.
        seed: Seed of new splits.
        not_labels: Columns that are no labels, whatever they hold.
        uncertain: What an uncertain cell (-1, 0.5, `equivocal`) becomes: unknown, ones or zeros.
        blanks: What an empty cell of a label becomes: unknown or zeros.
        readers: What several rows of one slide become: majority, any or all. Default: refused.

    Returns:
        The table `id, path, patient, split`, the labels, `mpp` and `annotation` (empty where not known; relative to
        `root`) and other known facts; and the labels.

    Raises:
        DataError: What `read_own_csv` refuses; a name that fits two slides, two slides of one name, or a wrong scale.
    """
    root = Path(root)
    path = only_csv(root if table is None else Path(table))
    root = root if root.is_dir() else root.parent
    raw = read_csv(path)
    notes: list[str] = []
    path_column, patient_column = usual_columns(raw, path_column, patient_column, notes)
    if class_column is None and labels is None:
        class_column = class_names(raw, notes)
    require_columns(path, raw, [path_column], "a table with one row per slide (name the column: path_column)")
    if id_column is None and path_column.lower() in IDS:
        names = raw[path_column].map(slide_name)
        if not names[~raw[path_column].duplicated()].duplicated().any():
            raw, id_column = raw.assign(**{NAMES: names}), NAMES
    held = contents(root, "slide")
    present = pd.Series([entry.path for entry in held.entries], dtype=str)
    raw[path_column] = find_slides(path, root, raw[path_column], held, notes)
    raw = _one_row_per_slide(raw, path_column, held, notes)
    if id_column is None:
        listed = raw[path_column]
        _refuse_one_name(path, listed if readers is None else listed[~listed.duplicated()])
        raw = raw.assign(**{NAMES: _names(root, raw[path_column], notes)})
    result, named = own_table(
        path,
        raw,
        root,
        _with_absolute(root, raw[path_column], present),
        path_column=path_column,
        id_column=id_column or NAMES,
        patient_column=patient_column,
        split_column=split_column,
        labels=labels,
        class_column=class_column,
        positive=positive,
        each_file_own_patient=each_file_own_patient,
        resplit=resplit,
        keep_missing=keep_missing,
        seed=seed,
        not_labels=not_labels,
        uncertain=uncertain,
        readers=readers,
        blanks=blanks,
    )
    for text in notes:
        note(result, text)
    for fact in ("mpp", "annotation"):
        if fact not in result:
            result[fact] = ""
    _check_scale(path, result, "mpp", mpp)
    if mpp_override is not None and "mpp_override" not in result:
        result["mpp_override"] = ""
    if "mpp_override" in result:
        _check_scale(path, result, "mpp_override", mpp_override)
    result["annotation"] = relative_paths(result["annotation"].str.replace("\\", "/", regex=False), root)
    _note_unknown(root, result)
    unlisted = present[~present.isin(set(raw[path_column]))]
    if len(unlisted):
        shown = "" if held.standing else f"; first {unlisted.iloc[0]}"
        note(result, f"{len(unlisted):,} slides have no row in {path.name} and were left out{shown}.")
    if aside := summary({reason: count for reason, count in held.counts().items() if "slide" in reason}):
        note(result, f"of the files of DICOM slides, {aside}.")
    _report_missing_annotations(root, result)
    return result, named


def _one_row_per_slide(raw: pd.DataFrame, column: str, held: Contents, notes: list[str]) -> pd.DataFrame:
    """Return the rows without those that name a further file of a DICOM slide, or a file of one that is no slide."""
    further = raw.duplicated() & raw[column].isin(set(held.standing.values()))
    aside = raw[column].isin(held.left_out.get(NO_VOLUME, ()))
    for rows, what in ((further, FURTHER), (aside, NO_VOLUME)):
        if rows.any():
            notes.append(f"{int(rows.sum()):,} rows name a {what} and were left out: a slide is one case.")
    return raw.loc[~further & ~aside].reset_index(drop=True)


def _names(root: Path, files: pd.Series, notes: list[str]) -> pd.Series:
    """Return the names of files without suffix; of DICOM slides hashes."""
    dicom = files.map(lambda file: is_dicom(root / file)).astype(bool)
    names = files.map(lambda file: slide_stem(Path(file).name))
    if not dicom.any():
        return names
    key = secret_key()
    notes.append(f"names of DICOM files were hashed with the key {key_name(key)}: with it they are the same again.")
    return names.mask(dicom, files.map(lambda file: keyed_hash(key, file)))


def _with_absolute(root: Path, listed: pd.Series, present: pd.Series) -> list[str]:
    """Return the slides below `root`, and what else exists and is listed: elsewhere, or of a kind that is not known."""
    others = listed[~listed.isin(set(present))]
    there = (file for file in others if file and ((root / file).is_file() or is_zarr_folder(root / file)))
    return [*present, *there]


def _refuse_one_name(path: Path, files: pd.Series) -> None:
    stems = files.map(lambda file: slide_stem(Path(file).name))
    repeated = np.flatnonzero(stems.duplicated() & (stems != ""))
    if not len(repeated):
        return
    second = repeated[0]
    first = int(np.flatnonzero(stems == stems.iloc[second])[0])
    rows, slides = (files.index[first] + 2, files.index[second] + 2), (files.iloc[first], files.iloc[second])
    if slides[0] == slides[1]:
        raise DataError(
            f"{path}: rows {rows[0]} and {rows[1]} are of one slide, {slides[0]}. Leave one out, or say how rows "
            "of several readers are joined: --option readers=majority, any or all."
        )
    raise DataError(
        f"{path}: rows {rows[0]} and {rows[1]}: {slides[0]} and {slides[1]} have one name, by which features are "
        "stored. Leave one out, rename it, or name a column of unique names (id_column)."
    )


def _check_scale(path: Path, table: pd.DataFrame, column: str, mpp: float | None) -> None:
    """Fill in a scale where the cell is empty; refuse a value that is no scale."""
    cells = table[column].mask(table[column].str.lower().isin(UNKNOWN_CELLS), "" if mpp is None else str(mpp))
    numbers = pd.to_numeric(cells, errors="coerce")
    wrong = np.flatnonzero((cells != "") & ~((numbers > 0) & (numbers < 100)))
    if len(wrong):
        raise DataError(
            f"{path}: slide {table['id'].iloc[wrong[0]]}: {column} is {cells.iloc[wrong[0]]!r}; it is microns per "
            "pixel, such as 0.25, or empty."
        )
    table[column] = cells


def _note_unknown(root: Path, table: pd.DataFrame) -> None:
    """Say which files are there and are no slides: they stay, and fail with their reason when they are read."""
    named = [file for file in table["path"] if not file.lower().endswith(SLIDE_SUFFIXES) and (root / file).is_file()]
    unknown = [file for file in named if file_kind(root / file) not in KINDS["slide"]]
    if unknown:
        note(
            table,
            f"{len(unknown):,} listed files are of no kind that is read as a slide, and will fail; first {unknown[0]}. "
            "Convert them to pyramidal TIFF.",
        )


def _report_missing_annotations(root: Path, table: pd.DataFrame) -> None:
    missing = [name for name in table["annotation"] if name and not (root / name).is_file()]
    if missing:
        table["annotation"] = table["annotation"].mask(table["annotation"].isin(missing), "")
        note(table, f"{len(missing):,} annotations are not there and their cells were emptied; first {missing[0]}.")
