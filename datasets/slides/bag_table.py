"""Classical sets of bags (MUSK, Tiger, ...), all in memory: a table with an instance a line, or lines of SVM format."""

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError
from ..manifest.tables import nearest, read_csv

# A line of Andrews, Tsochantaridis and Hofmann's sets (Tiger, Fox, Elephant): instance:bag:label, then column:value.
_SVM = re.compile(r"^\s*[^\s,;:]+:[^\s,;:]+:[-+]?\d+(\s+\d+:[^\s:]+)*\s*$")
_WIDEST = 10**6  # columns


@dataclass(frozen=True, eq=False)
class BagTable:
    """A classical set of bags, all in memory.

    Attributes:
        path: The file that it came from.
        ids: B names.
        labels: L names: one for two classes, else one per class.
        targets: (B, L) float32 of 0 and 1.
        features: (instances, D) float32, bag after bag.
        offsets: (B + 1,) first instance of each bag, and the end.
        instance_labels: (instances,) float32, where the file has them.
        notes: What was left out or taken otherwise in reading, in sentences.
    """

    path: Path
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    targets: np.ndarray
    features: np.ndarray
    offsets: np.ndarray
    instance_labels: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def width(self) -> int:
        """Return features D of an instance."""
        return self.features.shape[1]

    def count(self, row: int) -> int:
        """Return instances of a bag."""
        return int(self.offsets[row + 1] - self.offsets[row])

    def bag(self, row: int, instances: np.ndarray | None = None) -> np.ndarray:
        """Return (n, D) float32 features of these instances, or of all."""
        own = self.features[self.offsets[row] : self.offsets[row + 1]]
        return own if instances is None else own[instances]

    def reasons(self) -> list[str]:
        """Return N empty texts: the table was checked when it was read."""
        return [""] * len(self)


def read_bag_table(
    path: str | Path, label: str | int = 0, bag: str | int = 1, instance_label: str | int | None = None
) -> BagTable:
    """Read bags from a CSV (also compressed) with one instance a line, with or without a header, or from SVM format.

    A line of SVM format is `instance:bag:label column:value ...`, where columns that are not named are 0 (Tiger, Fox,
    Elephant); the settings of columns are for a CSV alone. Columns of names, such as those of conformations in UCI's
    MUSK, are left out and noted.

    Args:
        path: The file.
        label: Column of the bag's label, a name or a place from 0, from the end if below 0; a class number from 0, or
            -1 and 1, the same on all lines of a bag.
        bag: Column of the bag's id; its lines may stand anywhere.
        instance_label: Column of the instance's own label, if there is one. All other columns are features.

    Raises:
        DataError: The file is no such table, a cell is no number or not finite, a bag has two labels, or all have one.
    """
    path = Path(path)
    notes = []
    if _SVM.match(_first_line(path)):
        table, places = _svm_table(path), {"label": 0, "bag": 1}
    else:
        table = read_csv(path, header=0 if _has_header(path) else None)
        places = {name: _place(path, table, column) for name, column in (("label", label), ("bag", bag))}
        if instance_label is not None:
            places["instance label"] = _place(path, table, instance_label)
    if len(set(places.values())) < len(places) or table.shape[1] <= len(places):
        raise DataError(f"{path}: label, bag and features need columns of their own; it has {table.shape[1]} columns.")
    group, names = pd.factorize(table.iloc[:, places["bag"]].astype(str).str.strip())
    order = np.argsort(group, kind="stable")
    numbers = table.drop(columns=table.columns[places["bag"]]).apply(pd.to_numeric, errors="coerce")
    own = {name: table.columns[place] for name, place in places.items() if name != "bag"}
    texts = [name for name in numbers.columns[numbers.isna().all()] if name not in own.values()]
    if texts:
        numbers = numbers.drop(columns=texts)
        notes.append(f"{path}: {_columns(texts)} left out: no cell is a number.")
    wrong = np.argwhere(~np.isfinite(numbers.to_numpy(np.float64)))
    if len(wrong):
        line, column = wrong[0]
        raise DataError(
            f"{path}: instance {line + 1}: column {numbers.columns[column]} is no finite number ({len(wrong)} cells "
            "in all). Mend them or leave the instances out."
        )
    truth = numbers[own["label"]].to_numpy()
    if set(np.unique(truth)) == {-1.0, 1.0}:
        truth = (truth + 1) / 2
        notes.append(f"{path}: label -1 is taken as 0 (negative).")
    targets, labels = _targets(path, truth, group, names)
    features = numbers.drop(columns=list(own.values()))
    if not features.shape[1]:
        raise DataError(f"{path}: no column of numbers is left for features.")
    instances = numbers[own["instance label"]].to_numpy(np.float32)[order] if instance_label is not None else None
    return BagTable(
        path, tuple(names), labels, targets, features.to_numpy(np.float32)[order],
        np.concatenate([[0], np.bincount(group).cumsum()]), instances, tuple(notes),
    )  # fmt: skip


def _first_line(path: Path) -> str:
    """Return the first line that says something; empty where the file cannot be read, which its reader will say."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            return next((line for line in (file.readline(10**6) for _ in range(100)) if line.strip()), "")
    except (OSError, EOFError, ValueError):
        return ""


def _svm_table(path: Path) -> pd.DataFrame:
    """Return label, bag and features of lines `instance:bag:label column:value ...`; columns count from 1."""
    heads, cells = [], []
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            if not _SVM.match(line):
                raise DataError(f"{path}: line {number} is not `instance:bag:label column:value ...` as those before.")
            head, *pairs = line.split()
            _, bag, label = head.rsplit(":", 2)
            heads.append((label, bag))
            cells.append({int(column): value for column, value in (pair.split(":") for pair in pairs)})
    width = max((max(each, default=0) for each in cells), default=0)
    if not 0 < width <= _WIDEST or any(min(each, default=1) < 1 for each in cells):
        raise DataError(f"{path}: columns count from 1 to at most {_WIDEST:,}, and there is one at least.")
    features = pd.DataFrame(cells, columns=range(1, width + 1)).fillna("0")
    return pd.concat([pd.DataFrame(heads, columns=["label", "bag"]), features], axis=1)


def _columns(names: Sequence) -> str:
    return f"column{'s' * (len(names) > 1)} {', '.join(map(str, names[:5]))}{', ...' * (len(names) > 5)}"


def _has_header(path: Path) -> bool:
    """Return whether no cell of the first line is a number."""
    return pd.to_numeric(read_csv(path, header=None, nrows=1).iloc[0], errors="coerce").isna().all()


def _place(path: Path, table: pd.DataFrame, column: str | int) -> int:
    if isinstance(column, int):
        if not -table.shape[1] <= column < table.shape[1]:
            raise DataError(f"{path}: no column {column}; it has {table.shape[1]}, from 0 on.")
        return column % table.shape[1]
    if column not in table.columns:
        hint = nearest(column, map(str, table.columns))
        raise DataError(f"{path}: no column {column!r}{hint}; without a header, give its place from 0 on.")
    return table.columns.get_loc(column)


def _targets(path: Path, truth: np.ndarray, group: np.ndarray, names: Sequence) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (B, L) targets and the names of the labels."""
    first = np.zeros(len(names))
    first[group[::-1]] = truth[::-1]
    if np.any(split := truth != first[group]):
        raise DataError(f"{path}: bag {names[group[split][0]]!r} has two labels; a bag has one, on all its lines.")
    if np.any((first < 0) | (first != first.round())):
        raise DataError(
            f"{path}: a label is a class number from 0 on, or -1 and 1, not {first[(first < 0) | (first % 1 > 0)][0]}."
        )
    classes = np.unique(first)
    if len(classes) < 2:
        raise DataError(f"{path}: all {len(names)} bags have the label {classes[0]:.0f}: nothing to learn.")
    if np.array_equal(classes, [0, 1]):
        return first[:, None].astype(np.float32), ("positive",)
    return (first[:, None] == classes).astype(np.float32), tuple(f"class {number:.0f}" for number in classes)
