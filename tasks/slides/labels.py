"""Camelyon16: what its slides are called, which are left out, and what its label means.

Source: the README of the data set, and DTFD-MIL (issue 7) for two slides of the test set.
"""

TUMOR = "tumor"
LABELS = (TUMOR,)
MEANING = "1 = the slide holds a metastasis of breast cancer, 0 = it holds none"

COUNTS = {"normal": 159, "tumor": 111, "test": 129}

# Never used.
REMOVED = {
    "normal_086": "it holds tumour and is there again as tumor_111",
    "test_049": "it is a duplicate",
}
# Left out by some papers, which then test on 127 slides.
DISPUTED = ("test_114", "test_124")
# Not all tumour is outlined: tiles outside the outlines of these are no negatives.
PARTLY_OUTLINED = frozenset(
    [f"tumor_{n:03d}" for n in (10, 15, 18, 20, 25, 29, 33, 34, 44, 46, 51, 54, 55, 56, 67, 79, 85, 92, 95, 110)]
    + ["test_114"]
)
