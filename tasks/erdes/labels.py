"""The five two-class tasks of ERDES (ocular ultrasound clips), named and numbered as its official code does.

Source: ERDES, erdes/data/create_data_splits.py.
"""

import pandas as pd

from ...stages.dicom.case import Code

DIAGNOSES = ("normal", "pvd", "macula_detached", "macula_intact")
DETACHED = ("macula_detached", "macula_intact")  # both are retinal detachments (RD)

# Diagnoses that are 0, and those that are 1; others are outside the task.
CLASSES = {
    "normal_vs_rd": (("normal",), DETACHED),
    "non_rd_vs_rd": (("normal", "pvd"), DETACHED),
    "pvd_vs_rd": (("pvd",), DETACHED),
    "macula_detached_vs_intact": (("macula_detached",), ("macula_intact",)),
    "normal_vs_pvd": (("normal",), ("pvd",)),
}
LABELS = tuple(CLASSES)

MEANING = {
    "normal_vs_rd": "1 = retinal detachment, 0 = normal; empty = vitreous detachment (PVD)",
    "non_rd_vs_rd": "1 = retinal detachment, 0 = none (normal or vitreous detachment, PVD)",
    "pvd_vs_rd": "1 = retinal detachment, 0 = posterior vitreous detachment (PVD); empty = normal",
    "macula_detached_vs_intact": "1 = macula INTACT, the benign state (sensitivity is that of intact eyes), "
    "0 = macula detached; empty = no retinal detachment",
    "normal_vs_pvd": "1 = posterior vitreous detachment (PVD), 0 = normal; empty = retinal detachment",
}

# SNOMED CT, for DICOM results. What the detachment is compared with is no part of the code: the label says it.
_DETACHMENT = Code("42059000", "SCT", "Retinal detachment")
CODES = dict.fromkeys(("normal_vs_rd", "non_rd_vs_rd", "pvd_vs_rd"), _DETACHMENT)


def label_columns(diagnoses: pd.Series) -> pd.DataFrame:
    """Return the five labels (0, 1, NaN outside the task) of each diagnosis, a column each, indexed as `diagnoses`."""
    values = {label: dict.fromkeys(zero, 0.0) | dict.fromkeys(one, 1.0) for label, (zero, one) in CLASSES.items()}
    return pd.DataFrame({label: diagnoses.map(value).astype("float64") for label, value in values.items()})
