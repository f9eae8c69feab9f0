"""COVIDx, all versions: lists of train and test beside the folders train/ and test/.

Version 1 is train_split_v1.txt, 2 to 9 and severity are train_COVIDx*.txt, CXR-2 to CXR-4 of Kaggle train.txt; the
lists may lie in labels/ and the images in data/, as in the repository of COVID-Net.
"""

import re
from pathlib import Path

import pandas as pd

from ....core.errors import DataError
from ....datasets.manifest.inventory import complete_splits, files_below, keep_present, note, refuse_repeated
from ....datasets.manifest.tables import nearest, refuse_patient_overlap
from ..labels import COVIDX, COVIDX_LABELS

PARTS = ("train", "val", "test")
LISTS = ("{}_COVIDx*.txt", "{}_split*.txt", "{}.txt")
SUFFIXES = (".png", ".jpg", ".jpeg")
# `patient file class`, from version 3 on with the source; patients of versions 7 and 8 have blanks (`COVID 1`).
_LINE = re.compile(r"\s*(.+?)\s+(\S+\.(?:png|jpe?g))\s+(\S+)(?:\s+(\S+))?\s*", re.IGNORECASE)


def recognise(root: Path) -> bool:
    """Return whether there are lists of train and test, the first line of which is one of COVIDx."""
    lists = {part: _lists(root, part, None) for part in ("train", "test")}
    return all(lists.values()) and _starts_well(lists["train"][0])


def read(
    root: str | Path, *, version: str | None = None, keep_missing: bool = False, seed: int = 0
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read COVIDx.

    The three classes of the lists ...A and of versions before 6 become three labels, of which exactly one is 1; the
    four of version 1 four. Lists of two classes (6, ...B, severity) become one label: COVID-19, or level2. Patients of
    the test list are dropped from the others; without a list of val it is cut from train by patient.

    Args:
        root: The folder with the lists.
        version: What the names of the lists end with, such as "9A" or "_CXR-3A". Needed where there are several.
        keep_missing: Keep the rows of images that are not there (newer archives lack some).
        seed: Seed of the random choice of validation patients.

    Raises:
        DataError: A list is missing, a line is none, a class is unknown, or most images are missing.
    """
    root = Path(root)
    lists = {part: _list_file(root, part, version) for part in PARTS}
    lists = {part: path for part, path in lists.items() if path is not None}
    table = pd.concat([_read(path, part) for part, path in lists.items()], ignore_index=True)
    known = next((each for each in COVIDX_LABELS if table["class"].isin(each).all()), COVIDX)
    wrong = table[~table["class"].isin(known)]
    if len(wrong):
        name = wrong["class"].iloc[0]
        path, hint = lists[wrong["split"].iloc[0]], nearest(name, known)
        raise DataError(f"{path}: unknown class {name!r}{hint}; there are {', '.join(known)}.")
    table, labels = _labelled(_one_row_per_image(table), known)
    table = _without_test_patients(table)
    refuse_repeated(lists["train"], table["id"], "image")
    refuse_patient_overlap(lists["train"], table)
    images = root / "data" if (root / "data" / "train").is_dir() else root
    below = "data/" if images != root else ""
    table["path"] = below + table["path"]
    present = [f"{below}{part}/{file}" for part in PARTS if (images / part).is_dir() for file in _images(images / part)]
    table = keep_present(table, root, present, keep_missing)
    return complete_splits(lists["train"], table, labels, seed), labels


def _images(folder: Path) -> list[str]:
    return files_below(folder, SUFFIXES)


def _lists(root: Path, part: str, version: str | None) -> list[Path]:
    """Return the lists of a part: those of the first kind of name of which there are some."""
    folders = [root, root / "labels"]
    named = "" if str(version) == "1" else version
    patterns = LISTS if version is None else (f"{{}}_COVIDx{named}.txt", f"{{}}_split{version}.txt")
    kinds = (sorted(folder.glob(pattern.format(part))) for pattern in patterns for folder in folders)
    return next(filter(None, kinds), [])


def _starts_well(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        line = _LINE.fullmatch(file.readline(1000))
    return line is not None and any(line[3] in classes for classes in COVIDX_LABELS)


def _list_file(root: Path, part: str, version: str | None) -> Path | None:
    """Return the list of a part; None where there is none of val, which most versions lack."""
    found = _lists(root, part, version)
    if not found and part == "val":
        return None
    if not found:
        there = ", ".join(path.name for path in _lists(root, part, None)) or "none"
        raise DataError(f"{root}: no {part}_COVIDx{version or '9A'}.txt; found {there}.")
    if len(found) > 1:
        endings = ", ".join(re.split("COVIDx|split", path.stem)[-1] or "1" for path in found)
        raise DataError(f"{root}: several {part}_COVIDx*.txt. Name one by version: {endings}.")
    return found[0]


def _read(path: Path, part: str) -> pd.DataFrame:
    """Read a list; a line is `patient file class source`, or without the source."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable list ({error}).") from None
    rows = [(number, _LINE.fullmatch(line)) for number, line in enumerate(lines, start=1) if line.strip()]
    wrong = next((number for number, found in rows if found is None), None if rows else 1)
    if wrong is not None:
        raise DataError(f"{path}: line {wrong} has not the fields patient, file, class and (from version 3 on) source.")
    fields = pd.DataFrame(
        [found.groups(default="") for _, found in rows], columns=["patient", "file", "class", "source"]
    )
    return pd.DataFrame(
        {
            "id": f"{part}/" + fields["file"].str.rpartition(".")[0],
            "path": f"{part}/" + fields["file"],
            "patient": fields["patient"],
            "split": part,
            "class": fields["class"],
            "source": fields["source"].replace("rnsa", "rsna"),  # spelled so in 199 lines of V9A
        }
    )


def _one_row_per_image(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table without lines that repeat an image and its class: one per box in version 1, one slip in 4."""
    further = table.duplicated(["path", "class"])
    table = table[~further].reset_index(drop=True)
    # From version 5 on there are `000001-3.jpg` and `000001-3.png`: such ids keep the suffix.
    alike = table["id"].duplicated(keep=False) & ~table["path"].duplicated(keep=False)
    table["id"] = table["id"].mask(alike, table["path"])
    if further.any():
        note(table, f"{int(further.sum()):,} lines repeat an image and its class and were left out.")
    return table


def _labelled(table: pd.DataFrame, classes: tuple[str, ...]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    name, labels = table.pop("class"), COVIDX_LABELS[classes]
    if len(labels) == 1:
        table[labels[0]] = (name == classes[1]).astype("float64")
        return table, labels
    for label in labels:
        table[label] = (name == label).astype("float64")
    table.attrs["exclusive"] = True
    return table, labels


def _without_test_patients(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out of train and val the patients that are in the test list, and out of train those of val."""
    for part, others in (("test", ("train", "val")), ("val", ("train",))):
        held = frozenset(table.loc[table["split"] == part, "patient"])
        twice = table["split"].isin(others) & table["patient"].isin(held)
        attrs, where = table.attrs, " and ".join(sorted(set(table.loc[twice, "split"])))
        table = table[~twice].reset_index(drop=True)
        table.attrs = attrs
        if twice.any():
            note(table, f"{int(twice.sum()):,} {where} images of patients who are in {part} were left out.")
    return table
