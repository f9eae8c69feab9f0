"""Labels that can be predicted without looking at the patient.

From the size, the borders or the corners of an image, from the kind of file, or from where and how the manifest says it
was taken. A network finds such a shortcut if there is one.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ..kinds import is_dicom
from ..manifest.inventory import class_codes_in_names
from ..manifest.tables import Manifest
from .looks import Looks

TELLS = 0.95  # AUROC by patient, cross-validated
CHANCE = 1e-4  # of any such finding on a data set where nothing tells anything
FEWEST = 10  # patients with and without the label
MOST_CASES = 5000  # more say nothing new
TAKEN = ("view", "site", "scanner", "source", "probe")  # columns of a manifest
DICOM_TAGS = ("Manufacturer", "ManufacturerModelName", "ViewPosition", "BitsStored", "PhotometricInterpretation")
FOLDS = 5
MOST_VALUES = 20  # of a column: a tree of depth 3 asks for seven at most


def shortcuts(manifest: Manifest, looks: Looks) -> list[str]:
    """Return which labels can be predicted by what a network can see, or by what leaves traces in the pixels.

    A small tree is fitted on patients and tried on others (5 folds); it predicts a label if its AUROC over patients is
    0.95 at least, and that by chance in fewer than one of 10,000 data sets (rank sum test, Bonferroni).

    Args:
        manifest: Labels and facts.
        looks: Of the files that were read.

    Returns:
        Sentences for the warnings.
    """
    sources = [*_seen(looks), *_tags(manifest, looks), *_written(manifest)]
    found: dict[str, list[str]] = {}
    for what, rows, facts in sources:
        for label in manifest.labels:
            if _predicts(manifest, rows, facts, label, CHANCE / (len(sources) * len(manifest.labels))):
                found.setdefault(what, []).append(label)
    return [
        f"{_listed(labels)} can be told from {what} alone. A network may learn that and not the finding: take all "
        "classes from the same sources, or crop, pad and encode them alike, and score another hospital's images."
        for what, labels in found.items()
    ]


def unseen_codes(manifest: Manifest) -> list[str]:
    """Return labels that stand in folders and names of files, which no network sees: sentences for the facts."""
    rows = _some(np.arange(len(manifest)))
    paths = manifest.table["path"].iloc[rows]
    folders = paths.str.rpartition("/")[0]
    predicted = [
        label
        for label in manifest.labels
        if folders.nunique() > 1 and _predicts(manifest, rows, _values(folders), label, CHANCE / len(manifest.labels))
    ]
    found = (
        [f"the folders tell {_listed(predicted)}: of no use to a network, which sees pixels only."] if predicted else []
    )
    once = manifest.table.iloc[rows].drop_duplicates("patient")
    for label in manifest.labels:
        classes = once[label].map({0.0: "0", 1.0: "1"}).fillna("")
        if min(map(classes.tolist().count, "01")) >= FEWEST and (code := class_codes_in_names(once["path"], classes)):
            found.append(f"{label}: {code} A network sees pixels only.")
    return found


Way = tuple[str, np.ndarray, np.ndarray]  # what it is, n rows of the manifest, (n, F) facts


def _seen(looks: Looks) -> Iterator[Way]:
    if not len(looks):
        return
    rows, sizes = np.array(looks.rows), np.array(looks.sizes, np.float64)
    sizes = np.column_stack([sizes, sizes[:, 0] / sizes[:, 1]])
    yield "the size in pixels and frames", rows, sizes
    yield "flat borders", rows, np.array(looks.borders)
    yield "the corners of the images (burned-in letters and markers)", rows, np.array(looks.corners)


def _tags(manifest: Manifest, looks: Looks) -> Iterator[Way]:
    """Return what the DICOM headers of the files that were looked at say of the device."""
    files = manifest.files()
    rows = np.array([row for row in looks.rows if is_dicom(files[row])], np.int64)
    if len(rows) < 2 * FEWEST:
        return
    tags = pd.DataFrame([_device(files[row]) for row in rows], columns=DICOM_TAGS)
    for tag in tags:
        if tags[tag].nunique() > 1:
            yield f"the DICOM tag {tag}", rows, _values(tags[tag])


def _device(path: Path) -> list[str]:
    from ..images.dicom import read_elements

    with path.open("rb") as file:
        header = read_elements(path, file, DICOM_TAGS, stop_before_pixels=True)
    return [str(header.get(tag, "")) for tag in DICOM_TAGS]


def _written(manifest: Manifest) -> Iterator[Way]:
    """Return what the manifest says of how a case was taken."""
    rows = _some(np.arange(len(manifest)))
    table = manifest.table.iloc[rows]
    columns = {f"the column {name}": table[name] for name in TAKEN if name in table}
    columns["the kind of file"] = table["path"].str.extract(r"(\.[^./]+)$")[0].str.lower()
    for what, cells in columns.items():
        if cells.nunique() > 1:
            yield what, rows, _values(cells)


def _some(rows: np.ndarray) -> np.ndarray:
    return rows[np.unique(np.linspace(0, len(rows) - 1, MOST_CASES).astype(int))] if len(rows) > MOST_CASES else rows


def _values(cells: pd.Series) -> np.ndarray:
    """Return (n, F) of 0 and 1: whether it has the F-th most frequent value."""
    cells = cells.fillna("")
    return np.column_stack([cells == value for value in cells.value_counts().index[:MOST_VALUES]]).astype(np.float64)


def _predicts(manifest: Manifest, rows: np.ndarray, facts: np.ndarray, label: str, chance: float) -> bool:
    from scipy.stats import mannwhitneyu
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    cases = pd.DataFrame({"truth": manifest.table[label].iloc[rows], "patient": manifest.table["patient"].iloc[rows]})
    known = cases["truth"].notna().to_numpy()
    cases, facts = cases[known].reset_index(drop=True), facts[known]
    patients = cases.groupby("patient")["truth"].max()
    if min((patients == 1).sum(), (patients == 0).sum()) < FEWEST:
        return False
    truth = cases["truth"].to_numpy()
    tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=5, class_weight="balanced", random_state=0)
    if roc_auc_score(truth, tree.fit(facts, truth).predict_proba(facts)[:, 1]) < TELLS:
        return False  # what does not even fit tells nothing of others
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    scores = cross_val_predict(tree, facts, truth, groups=cases["patient"], cv=folds, method="predict_proba")
    cases["score"] = scores[:, 1]
    by_patient = cases.groupby("patient")[["score", "truth"]].agg({"score": "mean", "truth": "max"})
    scores = [by_patient.loc[by_patient["truth"] == value, "score"] for value in (1, 0)]
    test = mannwhitneyu(*scores, alternative="greater", method="asymptotic")
    area = test.statistic / math.prod(map(len, scores))
    return bool(area >= TELLS and test.pvalue <= chance)


def _listed(labels: list[str]) -> str:
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more labels" if len(labels) > 5 else "")
