"""Classes that exclude each other, named by a column, a folder or a list, become labels."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError
from .inventory import class_codes_in_names, note, warn
from .tables import FACTS, KEYS, nearest

NEGATIVE_WORDS = frozenset(
    ("normal", "negative", "healthy", "control", "no_finding", "none", "absent", "benign", "no", "0")
)


def class_labels(
    source: Path, table: pd.DataFrame, names: pd.Series, classes: Sequence[str], positive: str | None, means: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Add the labels of classes that exclude each other.

    Two classes become one label, named by the positive class; more become one label each, of which exactly one is 1
    (`attrs["exclusive"]`). What 1 means stands in `attrs["meaning"]`. A class that the names of the files give away
    is said in `attrs["warnings"]`.

    Args:
        source: The file or folder, named in messages.
        table: With `path` and `patient`.
        names: The class of each row; '' is unknown.
        classes: All classes, in the order of the labels.
        positive: Which of two classes is 1. Default: the one that does not read like "normal".
        means: What holds for a file of a class, with {} for the class, such as "in folder {}".

    Returns:
        A new table, and its labels.

    Raises:
        DataError: Fewer than two classes, a class named like another column, or a wrong `positive`.
    """
    if len(classes) < 2:
        raise DataError(
            f"{source}: {len(classes)} classes ({', '.join(classes) or 'none'}); there must be two or more."
        )
    taken = [name for name in classes if name in KEYS or name.lower() in FACTS]
    if taken:
        raise DataError(f"{source}: a class is named {taken[0]!r}, as a column of every manifest is. Rename the class.")
    if len(classes) > 2:
        if positive is not None:
            raise DataError(f"{source}: positive={positive} is for two classes; there are {len(classes)}.")
        labels = tuple(classes)
        meaning = {name: f"1 = {means.format(name)}; exactly one class is 1" for name in classes}
    else:
        one, other = _positive_first(source, table, classes, positive)
        labels, meaning = (one,), {one: f"1 = {means.format(one)}, 0 = {means.format(other)}"}
    codes = pd.Index(labels).get_indexer(names)
    # Single precision: there may be hundreds of classes and thousands of files.
    hot = (codes[:, None] == np.arange(len(labels))).astype(np.float32)
    hot[(names == "").to_numpy()] = np.nan
    attrs = {**table.attrs, "meaning": meaning} | ({"exclusive": True} if len(classes) > 2 else {})
    table = pd.concat([table, pd.DataFrame(hot, table.index, list(labels))], axis=1)
    table.attrs = attrs
    first = table.drop_duplicates("patient")
    leak = class_codes_in_names(first["path"], names.loc[first.index])
    if leak:
        warn(table, leak)
    return table, labels


def _positive_first(source: Path, table: pd.DataFrame, classes: Sequence[str], positive: str | None) -> tuple[str, str]:
    """Return the class that is 1, and the one that is 0."""
    if positive is not None and positive not in classes:
        raise DataError(
            f"{source}: no class {positive!r}{nearest(positive, classes)}; there are {' and '.join(classes)}."
        )
    healthy = [name for name in classes if re.sub(r"[\s-]+", "_", name.lower()) in NEGATIVE_WORDS]
    if positive is not None:
        one = positive
    elif len(healthy) == 1:
        one = classes[classes[0] == healthy[0]]
    else:
        one = classes[1]
        note(table, f"neither {classes[0]} nor {classes[1]} reads like normal; {one} was taken as 1 (positive).")
    return one, classes[classes[0] == one]
