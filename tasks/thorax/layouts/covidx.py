"""COVIDx (V9A, V9B, CXR-2, CXR-3): train_COVIDx*.txt and test_COVIDx*.txt beside train/ and test/."""

from pathlib import Path

import pandas as pd

from ....core.errors import DataError
from ....datasets.manifest.inventory import complete_splits, files_below, keep_present, note, refuse_repeated
from ....datasets.manifest.tables import nearest, refuse_patient_overlap
from ..labels import COVIDX, COVIDX_BINARY

BINARY_CLASSES = ("negative", "positive")
PARTS = ("train", "test")


def recognise(root: Path) -> bool:
    """Return whether there are a train_COVIDx*.txt and a test_COVIDx*.txt."""
    return all(any(root.glob(f"{part}_COVIDx*.txt")) for part in PARTS)


def read(
    root: str | Path, *, version: str | None = None, keep_missing: bool = False, seed: int = 0
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read COVIDx.

    The three classes of the lists ...A become three labels, of which exactly one is 1. The two classes of the lists
    ...B become the one label COVID-19. Patients of the test list are dropped from train; val is cut from train by
    patient.

    Args:
        root: The folder with the lists.
        version: What the names of the lists end with, such as "9A" or "_CXR-3A". Needed where there are several.
        keep_missing: Keep the rows of images that are not there (newer archives lack some).
        seed: Seed of the random choice of validation patients.

    Raises:
        DataError: A list is missing, a line has not four fields, a class is unknown, or most images are missing.
    """
    root = Path(root)
    lists = {part: _list_file(root, part, version) for part in PARTS}
    table = pd.concat([_read(lists[part], part) for part in PARTS], ignore_index=True)
    known = BINARY_CLASSES if table["class"].isin(BINARY_CLASSES).all() else COVIDX
    wrong = table[~table["class"].isin(known)]
    if len(wrong):
        name = wrong["class"].iloc[0]
        path, hint = lists[wrong["split"].iloc[0]], nearest(name, known)
        raise DataError(f"{path}: unknown class {name!r}{hint}; there are {', '.join(known)}.")
    table, labels = _labelled(table, known)
    table = _without_test_patients(table.drop_duplicates(ignore_index=True))
    refuse_repeated(lists["train"], table["id"], "image")
    refuse_patient_overlap(lists["train"], table)
    present = [f"{part}/{file}" for part in PARTS if (root / part).is_dir() for file in _images(root / part)]
    table = keep_present(table, root, present, keep_missing)
    return complete_splits(lists["train"], table, labels, seed), labels


def _images(folder: Path) -> list[str]:
    return files_below(folder, (".png", ".jpg", ".jpeg"))


def _list_file(root: Path, part: str, version: str | None) -> Path:
    found = sorted(root.glob(f"{part}_COVIDx{version or '*'}.txt"))
    if not found:
        there = ", ".join(path.name for path in sorted(root.glob(f"{part}_COVIDx*.txt"))) or "none"
        raise DataError(f"{root}: no {part}_COVIDx{version or '9A'}.txt; found {there}.")
    if len(found) > 1:
        endings = ", ".join(path.stem.partition("COVIDx")[2] for path in found)
        raise DataError(f"{root}: several {part}_COVIDx*.txt. Name one by version: {endings}.")
    return found[0]


def _read(path: Path, part: str) -> pd.DataFrame:
    """Read a list; a line is `patient file class source`."""
    try:
        lines = pd.Series(path.read_text(encoding="utf-8").splitlines(), dtype=str)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable list ({error}).") from None
    fields = lines[lines.str.strip() != ""].str.split()
    wrong = fields[fields.str.len() != 4]
    if len(wrong) or fields.empty:
        row = wrong.index[0] + 1 if len(wrong) else 1
        raise DataError(f"{path}: line {row} has not the four fields patient, file, class, source.")
    patient, file, name, source = (fields.str[i] for i in range(4))
    return pd.DataFrame(
        {
            "id": f"{part}/" + file.str.rpartition(".")[0],
            "path": f"{part}/" + file,
            "patient": patient,
            "split": part,
            "class": name,
            "source": source.replace("rnsa", "rsna"),  # spelled so in 199 lines of V9A
        }
    )


def _labelled(table: pd.DataFrame, classes: tuple[str, ...]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    name = table.pop("class")
    if classes == BINARY_CLASSES:
        table[COVIDX_BINARY[0]] = (name == "positive").astype("float64")
        return table, COVIDX_BINARY
    for label in COVIDX:
        table[label] = (name == label).astype("float64")
    table.attrs["exclusive"] = True
    return table, COVIDX


def _without_test_patients(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out of train the patients that are in both lists."""
    tested = frozenset(table.loc[table["split"] == "test", "patient"])
    twice = (table["split"] == "train") & table["patient"].isin(tested)
    table = table[~twice].reset_index(drop=True)
    if twice.any():
        note(table, f"{int(twice.sum()):,} train images of patients who are in test were left out.")
    return table
