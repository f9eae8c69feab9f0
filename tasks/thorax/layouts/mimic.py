"""MIMIC-CXR-JPG 2.x: files/p10/p10000032/s50414267/<dicom_id>.jpg and the tables mimic-cxr-2.0.0-*.csv.gz."""

from pathlib import Path

import pandas as pd

from ....core.errors import DataError
from ....datasets.manifest.inventory import files_below, keep_present, note, refuse_repeated, require_columns
from ....datasets.manifest.tables import nearest, read_csv, refuse_patient_overlap
from ..labels import MIMIC
from .report_labels import report_labels

SPLITS = {"train": "train", "validate": "val", "test": "test"}
LABELLERS = ("chexpert", "negbio")


def recognise(root: Path) -> bool:
    """Return whether there is a mimic-cxr-*-metadata.csv(.gz)."""
    return any(root.glob("mimic-cxr-*-metadata.csv*"))


def read(
    root: str | Path,
    *,
    labeller: str = "chexpert",
    uncertain: str = "unknown",
    blanks: str = "unknown",
    no_finding_is_zero: bool = True,
    views: tuple[str, ...] = ("AP", "PA"),
    keep_missing: bool = False,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read MIMIC-CXR-JPG with its official splits and the labels of each study.

    Args:
        root: The folder with the tables and `files/`.
        labeller: chexpert or negbio, the program that read the reports.
        uncertain: What -1 becomes: unknown, ones, zeros, or paper (see `report_labels`).
        blanks: What an empty cell becomes: unknown or zeros.
        no_finding_is_zero: In a study with `No Finding` = 1, set every pathology to 0. Support Devices stay: they are
            no pathology.
        views: View positions to keep; an empty tuple keeps all.
        keep_missing: Keep the rows of images that are not there.

    Raises:
        DataError: A file, column or cell is wrong, an image has no split, or more than half of the images are missing.
    """
    root = Path(root)
    if labeller not in LABELLERS:
        raise DataError(f"labeller {labeller!r}{nearest(labeller, LABELLERS)}; there are {', '.join(LABELLERS)}.")
    path, images = _table(root, "metadata", ("dicom_id", "subject_id", "study_id", "ViewPosition"))
    refuse_repeated(path, images["dicom_id"], "image")
    table = pd.DataFrame({"id": images["dicom_id"], "path": _paths(images), "patient": images["subject_id"]})
    table["split"] = _splits(root, images["dicom_id"])
    table["view"], table["study"] = images["ViewPosition"], images["study_id"]
    studies = _studies(root, labeller, uncertain, blanks, no_finding_is_zero)
    reported = table["study"].isin(studies.index)
    table[list(MIMIC)] = studies.reindex(table["study"]).to_numpy()
    kept = table["view"].isin(views) if views else pd.Series(True, table.index)
    table = table[kept].reset_index(drop=True)
    if table.empty:
        raise DataError(f"{path}: no image with the views {', '.join(views)}.")
    if not kept.all():
        note(table, f"{int((~kept).sum()):,} images with views other than {', '.join(views)} were left out.")
    if not reported[kept].all():
        note(
            table,
            f"{int((~reported[kept]).sum()):,} images have a study without labels; theirs are unknown.",
        )
    refuse_patient_overlap(path, table)
    present = None if keep_missing else [f"files/{file}" for file in _walk(root)]
    table = table if keep_missing else keep_present(table, root, present)
    return table, MIMIC


def _walk(root: Path) -> list[str]:
    if not (root / "files").is_dir():
        raise DataError(f"{root}: no folder files/ with the images.")
    return files_below(root / "files", (".jpg",))


def _table(root: Path, name: str, columns: tuple[str, ...]) -> tuple[Path, pd.DataFrame]:
    found = sorted(root.glob(f"mimic-cxr-*-{name}.csv.gz")) + sorted(root.glob(f"mimic-cxr-*-{name}.csv"))
    if not found:
        raise DataError(f"{root}: no mimic-cxr-2.0.0-{name}.csv.gz. It comes with MIMIC-CXR-JPG on PhysioNet.")
    table = read_csv(found[0])
    require_columns(found[0], table, columns, f"the {name} of MIMIC-CXR-JPG")
    return found[0], table


def _paths(images: pd.DataFrame) -> pd.Series:
    subject, study = images["subject_id"], images["study_id"]
    return "files/p" + subject.str[:2] + "/p" + subject + "/s" + study + "/" + images["dicom_id"] + ".jpg"


def _splits(root: Path, ids: pd.Series) -> pd.Series:
    path, listed = _table(root, "split", ("dicom_id", "split"))
    refuse_repeated(path, listed["dicom_id"], "image")
    splits = ids.map(listed.set_index("dicom_id")["split"].map(SPLITS))
    if splits.isna().any():
        raise DataError(f"{path}: image {ids[splits.isna()].iloc[0]} has no split among {', '.join(SPLITS)}.")
    return splits


def _studies(root: Path, labeller: str, uncertain: str, blanks: str, no_finding_is_zero: bool) -> pd.DataFrame:
    """Return the labels by study_id."""
    path, raw = _table(root, labeller, ("subject_id", "study_id", "No Finding", *MIMIC))
    refuse_repeated(path, raw["study_id"], "study")
    values = report_labels(path, raw, MIMIC, uncertain, blanks)
    if no_finding_is_zero:
        healthy = pd.to_numeric(raw["No Finding"], errors="coerce") == 1
        values.loc[healthy, [label for label in MIMIC if label != "Support Devices"]] = 0.0
    return values.set_axis(raw["study_id"])
