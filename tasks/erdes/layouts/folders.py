"""What the folders of ERDES say about a clip: its diagnosis, the side of the detachment, and with it the labels."""

import pandas as pd

from ....datasets.manifest.own import file_ids
from ..labels import DETACHED, LABELS, MEANING, label_columns

# The published tree, and below it that of the older copy on Hugging Face (pnavard/erdes).
DIAGNOSIS_OF = {
    "Non_Retinal_Detachment/Normal": "normal",
    "Non_Retinal_Detachment/Posterior_Vitreous_Detachment": "pvd",
    "Retinal_Detachment/Macula_Detached": "macula_detached",
    "Retinal_Detachment/Macula_Intact": "macula_intact",
    "train/Non_RD": "normal",
    "train/PVD": "pvd",
    "train/Macula_Detached": "macula_detached",
    "train/Macula_Intact": "macula_intact",
}
# Folder, then perhaps the side: ND (nasal), TD (temporal) or Bilateral.
CLIP = rf"(?:^|/)(({'|'.join(DIAGNOSIS_OF)})/(?:([^/]+)/)?[^/]+)$"


def clip_paths(files: pd.Series) -> pd.Series:
    """Return paths from the folders of the tree on, without what precedes them (`clips/`); NaN for other files."""
    return files.str.strip().str.replace("\\", "/", regex=False).str.extract(CLIP)[0]


def clip_table(paths: pd.Series, prefix: str = "") -> pd.DataFrame:
    """Return the table of clips, their splits empty.

    Args:
        paths: N results of `clip_paths`, none missing.
        prefix: The folder of the tree, seen from the data set's root: '' or ending with `/`.

    Returns:
        `id, path, patient, split`, the five labels, `diagnosis` and `side` ('' where there is none).
    """
    found = paths.str.extract(CLIP)
    ids = file_ids(paths)
    keys = pd.DataFrame({"id": ids, "path": prefix + paths, "patient": ids, "split": ""})
    diagnosis = found[1].map(DIAGNOSIS_OF)
    side = found[2].where(diagnosis.isin(DETACHED)).fillna("")
    facts = pd.DataFrame({"diagnosis": diagnosis, "side": side})
    table = pd.concat([keys, label_columns(diagnosis), facts], axis=1)
    table.attrs["meaning"] = dict(MEANING)
    return table


def without_labels(table: pd.DataFrame, kept: tuple[str, ...]) -> pd.DataFrame:
    """Return the table with these labels only."""
    table = table.drop(columns=[label for label in LABELS if label not in kept])
    table.attrs["meaning"] = {label: MEANING[label] for label in kept}
    return table
