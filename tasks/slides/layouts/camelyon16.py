"""Camelyon16 as downloaded: training/ and testing/, or the flat mirror with images/ and annotations/."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ....core.errors import DataError
from ....datasets.manifest.inventory import complete_splits, files_below, note, refuse_repeated, warn
from ....datasets.manifest.tables import nearest, read_csv
from ..labels import COUNTS, DISPUTED, LABELS, PARTLY_OUTLINED, REMOVED, TUMOR

FOLDERS = ("training/normal", "training/tumor", "testing/images", "images")
NAME = r"((normal|tumor|test)_\d{3})"
SLIDE = rf"(?i)^(?!masks/).*?(?:^|/){NAME}\.tif$"
OUTLINES = rf"(?i)(?:^|/){NAME}\.xml$"
LISTED = rf"(?i)^\s*{NAME}(?:\.tif)?\s*$"
TRUTH = {"normal": 0.0, "tumor": 1.0}


def recognise(root: Path) -> bool:
    """Return whether a slide of Camelyon16 is in one of its folders, here or one folder further down."""
    return bool(_bases(root))


def read(
    root: str | Path, *, leave_out: Sequence[str] = (), mpp: float | None = None, seed: int = 0
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read Camelyon16.

    Training slides carry their class in the name, test slides in reference.csv. A slide counts as a patient of its
    own, as the data set names none. Slides that the data set withdrew (normal_086, test_049) are left out.

    Args:
        root: The folder with training/ and testing/ (or images/), or the one above it.
        leave_out: Ids to leave out as well, such as test_114 and test_124, which some papers drop.
        mpp: Microns per level-0 pixel, for slides whose file does not say it.
        seed: Seed of the random choice of validation slides.

    Returns:
        The table `id, path, patient, split, tumor, mpp, annotation, outlined`: `annotation` is the XML (relative to
        `root`, empty where there is none), `outlined` is "all", "part" (more tumour than outlines) or empty.

    Raises:
        DataError: No slide, one name twice, an unknown id to leave out, or a wrong row in reference.csv.
    """
    root = Path(root)
    base = _base(root)
    prefix = "" if base == root else base.relative_to(root).as_posix() + "/"
    files = pd.Series(files_below(base, (".tif", ".xml", ".csv", ".zip")), dtype=str)
    table = _slides(base, files)
    _leave_out(base, table, leave_out)
    table = table.loc[~table.pop("dropped")].reset_index(drop=True)
    if table.empty:
        raise DataError(f"{base}: no slide is left of those found. Is the download whole?")
    _test_truth(base, table, files)
    table["mpp"] = "" if mpp is None else f"{_scale(root, mpp):g}"
    _with_outlines(base, table, files)
    table["path"] = prefix + table["path"]
    table["annotation"] = table["annotation"].where(table["annotation"] == "", prefix + table["annotation"])
    _compare_counts(table)
    return complete_splits(base, table, LABELS, seed), LABELS


def _bases(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    folders = [root, *sorted(folder for folder in root.iterdir() if folder.is_dir())]
    return [folder for folder in folders if any(_holds_slides(folder / name) for name in FOLDERS)]


def _holds_slides(folder: Path) -> bool:
    return folder.is_dir() and bool(pd.Series([p.name for p in folder.iterdir()], dtype=str).str.match(SLIDE).any())


def _base(root: Path) -> Path:
    bases = _bases(root)
    if not bases:
        raise DataError(f"{root}: no slide such as {FOLDERS[1]}/tumor_001.tif, here or one folder further down.")
    if len(bases) > 1 and bases[0] != root:
        raise DataError(f"{root}: Camelyon16 lies there more than once: {bases[0]} and {bases[1]}. Name one of them.")
    return bases[0]


def _slides(base: Path, files: pd.Series) -> pd.DataFrame:
    names = files.str.extract(SLIDE)
    there = names[0].notna()
    ids, kinds = names.loc[there, 0].str.lower(), names.loc[there, 1].str.lower()
    refuse_repeated(base, ids, "slide")
    table = pd.DataFrame({"id": ids, "path": files[there], "patient": ids})
    table["split"] = np.where(kinds == "test", "test", "train")
    table[TUMOR] = kinds.map(TRUTH)
    return table.reset_index(drop=True)


def _leave_out(base: Path, table: pd.DataFrame, asked: Sequence[str]) -> None:
    """Add a column `dropped`: True for the withdrawn slides and those asked for."""
    asked = [asked] if isinstance(asked, str) else [str(name) for name in asked]
    for name in asked:
        if name not in set(table["id"]):
            raise DataError(f"{base}: leave_out: there is no slide {name!r}{nearest(name, table['id'])}.")
    table["dropped"] = table["id"].isin([*asked, *REMOVED])
    for name in table.loc[table["dropped"] & ~table["id"].isin(asked), "id"]:
        note(table, f"{name} was left out: {REMOVED[name]}.")
    if asked:
        note(table, f"left out as asked: {', '.join(asked)}.")
    kept = [name for name in DISPUTED if name in set(table.loc[~table["dropped"], "id"])]
    if kept:
        warn(
            table,
            f"some papers drop {' and '.join(kept)} as mislabelled or partly outlined and test on 127 slides; they are "
            f"kept. To drop them: leave_out=[{','.join(kept)}].",
        )


def _test_truth(base: Path, table: pd.DataFrame, files: pd.Series) -> None:
    """Fill in the class of the test slides."""
    tested = table["split"] == "test"
    if not tested.any():
        warn(table, "there are no test slides (testing/images).")
        return
    lists = files[files.str.contains(r"(?:^|/)reference\.csv$")].tolist()
    if not lists:
        warn(table, "there is no testing/reference.csv: whether the test slides hold tumour is unknown.")
        return
    chosen = "testing/reference.csv" if "testing/reference.csv" in lists else lists[0]
    truth = _reference(base / chosen)
    table.loc[tested, TUMOR] = table.loc[tested, "id"].map(truth)
    unknown = table.loc[tested & table[TUMOR].isna(), "id"]
    if len(unknown):
        warn(
            table, f"{len(unknown)} test slides are not in {chosen}, the first is {unknown.iloc[0]}: theirs is unknown."
        )
    there = set(files.str.extract(SLIDE)[0].dropna().str.lower())
    absent = [name for name in truth.index if name not in there]
    if absent:
        note(table, f"{len(absent)} slides of {chosen} are not there; the first is {absent[0]}.")


def _reference(path: Path) -> pd.Series:
    """Return the truth by id from `test_001,Tumor,...`; a header is skipped."""
    raw = read_csv(path, header=None)
    if raw.shape[1] < 2:
        raise DataError(f"{path}: expected rows such as test_001,Tumor.")
    ids = raw[0].str.extract(LISTED)[0].str.lower()
    truth = raw[1].str.strip().str.lower().map(TRUTH)
    first = int(ids.isna().iloc[0])
    wrong = np.flatnonzero((ids.isna() | truth.isna()).iloc[first:])
    if len(wrong):
        row = first + int(wrong[0])
        raise DataError(
            f"{path}: row {row + 1}: {raw[0].iloc[row]},{raw[1].iloc[row]}; a row is a slide and Normal or Tumor."
        )
    refuse_repeated(path, ids.iloc[first:], "slide")
    return truth.iloc[first:].set_axis(ids.iloc[first:])


def _with_outlines(base: Path, table: pd.DataFrame, files: pd.Series) -> None:
    """Add `annotation` (relative to `base`) and `outlined`."""
    found = files.str.extract(OUTLINES)[0].str.lower()
    refuse_repeated(base, found.dropna(), "annotation")
    by_id = dict(zip(found.dropna(), files[found.notna()]))
    table["annotation"] = [by_id.get(name, "") for name in table["id"]]
    outlined = np.where(table["id"].isin(PARTLY_OUTLINED), "part", "all")
    table["outlined"] = np.where(table["annotation"] == "", "", outlined)
    part = int((table["outlined"] == "part").sum())
    if part:
        note(
            table,
            f"in {part} slides only part of the tumour is outlined (outlined = part): tiles outside prove nothing.",
        )
    bare = table[(table[TUMOR] == 1) & (table["annotation"] == "")]
    for where, name in (("train", "training"), ("test", "testing")):
        missing = bare.loc[bare["split"] == where, "id"]
        if not len(missing):
            continue
        packed = f"{name}/lesion_annotations.zip"
        hint = f"Get {packed}."
        if packed in set(files):
            path = base / name / "lesion_annotations"
            hint = f"Unpack them: unzip {path}.zip -d {path}"
        warn(
            table,
            f"{len(missing)} tumour slides in {where} have no outlines, the first is {missing.iloc[0]}: localisation "
            f"cannot be scored there. {hint}",
        )


def _compare_counts(table: pd.DataFrame) -> None:
    kinds = table["id"].str.partition("_")[0]
    short = [
        f"{(kinds == kind).sum()} of {count} {kind}" for kind, count in COUNTS.items() if (kinds == kind).sum() < count
    ]
    if short:
        warn(table, f"this is not all of Camelyon16 ({', '.join(short)}): metrics do not compare with those of papers.")


def _scale(root: Path, mpp: float) -> float:
    if isinstance(mpp, bool) or not isinstance(mpp, int | float) or not 0 < mpp < 100:
        raise DataError(f"{root}: mpp={mpp}: give microns per pixel, such as 0.25.")
    return float(mpp)
