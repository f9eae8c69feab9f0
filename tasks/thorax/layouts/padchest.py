"""PadChest (Bustos et al. 2020): PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv, folders 0 ... 54 of PNG."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ....core.errors import DataError
from ....datasets.manifest.cells import UNKNOWN_CELLS
from ....datasets.manifest.columns import policy
from ....datasets.manifest.inventory import (
    by_stem,
    complete_splits,
    files_below,
    keep_present,
    note,
    refuse_repeated,
    require_columns,
)
from ....datasets.manifest.keys import as_names
from ....datasets.manifest.several import names_in
from ....datasets.manifest.tables import nearest, read_csv

PATTERN = "PADCHEST_chest_x_ray_images_labels*.csv*"
COLUMNS = ("ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "MethodLabel", "Labels")
FRONTAL = ("PA", "AP", "AP_horizontal")
NO_FINDINGS = frozenset(("normal", "unchanged", "exclude", "suboptimal study"))  # entries of the column that are none
UNKNOWN = frozenset(("unchanged", "exclude", "suboptimal study"))  # alone they leave open what the image shows
LABELLERS = {"all": None, "physicians": "Physician"}
SHARE = 1000  # one image in so many has a finding that is a label


def recognise(root: Path) -> bool:
    """Return whether there is the table of PadChest."""
    return root.is_dir() and any(root.glob(PATTERN))


def read(
    root: str | Path,
    *,
    labels: Sequence[str] | None = None,
    least: int | None = None,
    labelled_by: str = "all",
    views: Sequence[str] = FRONTAL,
    keep_missing: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read PadChest. It has no published test split: patients are dealt out to train, val and test.

    Findings are those of the column `Labels`. They are a tree, of which a report names the leaves and not always what
    is above them. `normal` is the absence of all; images of which only `exclude`, `suboptimal study` or `unchanged` is
    said, or nothing, are left out.

    Args:
        root: The folder with the table and the images, in folders or in one.
        labels: Findings to keep, as the table writes them. Default: all that enough images have.
        least: Images that a finding must have, where none are named. Default: one in 1,000, at least 1.
        labelled_by: all, or physicians (27 % of the reports; a network labelled the others).
        views: Projections to keep (PA, AP, AP_horizontal, L, COSTAL, ...); an empty list keeps all.
        keep_missing: Keep the rows of images that are not there.
        seed: Of the splits.

    Raises:
        DataError: A column is missing, an option or a finding unknown, or more than half of the images are missing.
    """
    root = Path(root)
    found = sorted(root.glob(PATTERN))
    if not found:
        raise DataError(f"{root}: no PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv. It comes with the images.")
    path = found[0]
    raw = read_csv(path)
    require_columns(path, raw, COLUMNS, "the table of PadChest")
    named = as_names(labels, ())
    table = _facts(raw)
    refuse_repeated(path, table["id"], "image")
    listed = raw["Labels"].map(_findings)
    who = LABELLERS[policy("labelled_by", labelled_by, LABELLERS)]
    wanted = as_names(views, ())
    kept = np.ones(len(raw), dtype=bool)
    for why, rows in (
        ("have no label that says what they show", listed.map(lambda names: names is None)),
        (f"have projections other than {', '.join(wanted)}", ~table["view"].isin(wanted) & bool(wanted)),
        ("were not labelled by physicians", (raw["MethodLabel"].str.strip() != who) & bool(who)),
    ):
        left = kept & rows.to_numpy(bool)
        if left.any():
            note(table, f"{int(left.sum()):,} images {why} and were left out.")
        kept &= ~left
    attrs = table.attrs
    table, listed = table[kept].reset_index(drop=True), listed[kept].reset_index(drop=True)
    table.attrs = attrs
    if table.empty:
        raise DataError(f"{path}: no image is left of {len(raw):,}. {' '.join(attrs.get('notes', []))}")
    names = _chosen(path, table, listed, named, least)
    values = np.array([[name in each for name in names] for each in listed], dtype=np.float64)
    table = pd.concat([table, pd.DataFrame(values, table.index, list(names))], axis=1)
    table.attrs = attrs
    files = files_below(root, (".png", ".jpg", ".jpeg"))
    table["path"] = table["id"].map(by_stem(files)).astype("str").fillna(table["path"])
    table = keep_present(table, root, files, keep_missing)
    return complete_splits(path, table, names, seed), names


def _facts(raw: pd.DataFrame) -> pd.DataFrame:
    cells = {column: raw[column].str.strip() for column in COLUMNS}
    table = pd.DataFrame({"id": cells["ImageID"].str.replace(r"\.\w+$", "", regex=True)})
    table["path"] = cells["ImageDir"].str.cat(cells["ImageID"], "/").str.lstrip("/")
    table["patient"], table["split"] = cells["PatientID"], ""
    table["view"], table["study"], table["source"] = cells["Projection"], cells["StudyID"], cells["MethodLabel"]
    if "PatientSex_DICOM" in raw:
        table["sex"] = raw["PatientSex_DICOM"].str.strip()
    if {"PatientBirth", "StudyDate_DICOM"} <= set(raw.columns):
        born, taken = (pd.to_numeric(cells, errors="coerce") for cells in (
            raw["PatientBirth"], raw["StudyDate_DICOM"].str.strip().str[:4]
        ))  # fmt: skip
        table["age"] = (taken - born).where(lambda years: years.between(0, 120)).round().astype("Int64")
    return table


def _findings(cell: str) -> frozenset[str] | None:
    """Return the findings of an image, empty of a normal one; None where the cell leaves them open."""
    if cell.strip().lower() in UNKNOWN_CELLS:
        return None
    names = frozenset(name.lower() for name in names_in(cell)) - {"", "nan"}
    findings = names - NO_FINDINGS
    return findings if findings or "normal" in names else None


def _chosen(
    path: Path, table: pd.DataFrame, listed: pd.Series, named: tuple[str, ...] | None, least: int | None
) -> tuple[str, ...]:
    """Return the labels: those that are named, or all that are frequent enough, the most frequent first."""
    counts = Counter(name for names in listed for name in sorted(names))
    if named is not None:
        for name in named:
            if name.lower() not in counts:
                raise DataError(f"{path}: no image has the finding {name!r}{nearest(name, counts)}.")
        return tuple(name.lower() for name in named)
    least = max(1, len(listed) // SHARE) if least is None else int(least)
    frequent = tuple(
        name for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0])) if count >= least
    )
    if not frequent:
        raise DataError(f"{path}: no finding has {least:,} images; lower the option least.")
    rare = len(counts) - len(frequent)
    if rare:
        note(
            table, f"{rare:,} of {len(counts):,} findings have fewer than {least:,} images and became no label (least)."
        )
    return frequent
