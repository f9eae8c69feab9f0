"""The two tables that pass between the stages: `manifest.csv` (what there is), `predictions.csv` (what a model said).

manifest.csv     `id,path,patient,split`, one column per label (0, 1, empty = unknown), and any other columns.
                 A `manifest.json` beside it may say what 1 means, per label (`meaning`), name folders outside
                 of its own in which its files may lie (`roots`), and declare columns of numbers, grades, times and
                 events as what is to be predicted (`targets`).
predictions.csv  `id,patient,split,status,reason`, then `y_<label>`, `p_<label>`; one row per requested case, always.
                 An optional column `decision` names the label that a rule other than the largest score decided for.
                 Of numbers, grades and times other columns stand in their place: see `targets`.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.documents import read_json
from ...core.errors import DataError
from ...core.files import write_json
from ...core.label_groups import groups_of, settled
from .cells import UNKNOWN_CELLS, is_binary, is_numeric, label_cells, nearest, numbers, read_csv, write_csv
from .cells import as_numbers as as_numbers
from .cells import for_spreadsheets as for_spreadsheets
from .covariates import FACTS as FACTS
from .covariates import is_covariate as is_covariate
from .manifest_columns import KEYS as KEYS
from .manifest_columns import SPLITS as SPLITS
from .patients import doubtful_patients, tidy_patients
from .prediction_columns import DIGITS, prediction_columns
from .roots import refuse_outside, signature_of
from .targets import Asked as Asked
from .targets import Ordinal as Ordinal
from .targets import Regression as Regression
from .targets import Survival as Survival
from .targets import Target as Target
from .targets import (
    checked_target,
    declared,
    differing_patients,
    found_targets,
    target_cells,
)
from .targets import truth_width as truth_width
from .units import UNITS as UNITS
from .units import checked_unit as checked_unit
from .units import many as many
from .units import plural as plural
from .units import unit_ids as unit_ids
from .units import without_unit as without_unit

_MANY = 0.2  # of the scores: beyond it they are on another scale, rather than failed
_RESPLIT = "Split by patient, or empty the column and let `clinvit prepare --resplit` do it."
_OVERLAP = (
    "What is chosen on one split would be tried on the same people in another. Split by patient (`clinvit prepare "
    "--resplit`) and predict anew, or leave the rows of these patients out of one split."
)


@dataclass(frozen=True, eq=False)
class Manifest:
    """A validated manifest.

    Attributes:
        path: The CSV file; relative paths in it are relative to its folder.
        table: One row per case. `id, path, patient, split` are strings, labels are float64 (NaN = unknown),
            every other column is a string.
        labels: The label columns, in file order.
        meaning: What 1 means, for the labels of which it is written down.
        notes: What was changed in reading, in sentences.
        kinds: The targets that are no labels: numbers, grades, times until an event. Their truth stands in float64
            columns of their own (`Target.truth`), beside the text that the file has.
    """

    path: Path
    table: pd.DataFrame
    labels: tuple[str, ...]
    meaning: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    kinds: tuple[Target, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, *splits: str) -> "Manifest":
        """Return the cases of the named splits, in file order."""
        return replace(self, table=self.table[self.table["split"].isin(splits)].reset_index(drop=True))

    def with_labels(self, labels: Sequence[str]) -> "Manifest":
        """Return the same cases with these labels (or targets) only, in this order."""
        kinds = {each.name: each for each in self.kinds}
        for label in labels:
            if label not in (*self.labels, *kinds):
                raise DataError(f"{self.path}: no label column {label!r}{nearest(label, (*self.labels, *kinds))}.")
        asked = tuple(kinds[label] for label in labels if label in kinds)
        return replace(self, labels=tuple(label for label in labels if label not in kinds), kinds=asked)

    def targets(self) -> np.ndarray:
        """Return (N, L) float32 of 0, 1 and NaN (unknown)."""
        return self.table[list(self.labels)].to_numpy(np.float32)

    @property
    def asked(self) -> Asked:
        """Return what is to be predicted: the labels, then the targets that are none."""
        return (*self.labels, *self.kinds)

    def truth(self, asked: Asked | None = None) -> np.ndarray:
        """Return (N, T) float64 truth of labels and targets, NaN where it is unknown.

        Args:
            asked: Of a model, which may have been trained on another manifest; what this one does not have is unknown.
                Default: all of this one.

        Raises:
            DataError: A target is of another kind here.
        """
        own = {each.name: each for each in self.kinds}
        parts = [np.empty((len(self), 0))]
        for each in self.asked if asked is None else asked:
            here = own.get(each if isinstance(each, str) else each.name)
            if isinstance(each, str) and each in self.labels:
                columns = [each]
            elif isinstance(each, Target) and here is not None:
                if here.kind != each.kind:
                    raise DataError(f"{self.path}: target {each.name!r} is {here.kind} here, {each.kind} of the model.")
                columns = list(here.truth)
            else:
                parts.append(np.full((len(self), truth_width([each])), np.nan))
                continue
            parts.append(self.table[columns].to_numpy(np.float64))
        return np.concatenate(parts, axis=1)

    def files(self) -> list[Path]:
        """Return the N files, relative paths joined to the manifest's folder."""
        return [self.path.parent / path for path in self.table["path"]]

    def microns_per_px(self) -> list[float | None]:
        """Return the N cells of the column `mpp` (slides); None where it is empty or there is no such column.

        A cell of the column `mpp_override` comes first, as an `MppOverride`.

        Raises:
            DataError: A cell is no number.
        """
        from ..slides.scale import MppOverride

        plain, over = self._mpp_cells("mpp"), self._mpp_cells("mpp_override")
        return [one if other is None else MppOverride(other) for one, other in zip(plain, over)]

    def _mpp_cells(self, column: str) -> list[float | None]:
        if column not in self.table:
            return [None] * len(self)
        cells = self.table[column].str.strip()
        values = pd.to_numeric(cells, errors="coerce")
        wrong = np.flatnonzero(values.isna() & ~cells.str.lower().isin(UNKNOWN_CELLS))
        if len(wrong):
            raise DataError(
                f"{self.path}: the {column} of {self.table['id'].iloc[wrong[0]]} is {cells.iloc[wrong[0]]!r}; microns "
                "per pixel are a number, or empty where the slide's file says them."
            )
        return [None if np.isnan(number) else float(number) for number in values]

    def fingerprint(self) -> str:
        """Return SHA-256 over ids, paths, patients, splits and labels: which data a run saw."""
        columns = self.table[[*KEYS, *self.labels, *(column for each in self.kinds for column in each.truth)]]
        return hashlib.sha256(columns.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def read_manifest(path: str | Path, labels: Sequence[str] | None = None) -> Manifest:
    """Read and check a manifest.

    Args:
        path: The CSV file.
        labels: Names of the label columns and of targets that are declared. Default: all targets, and every column
            that is no key (`id, path, patient, split`), no known fact or covariate (`age`, `view`, `fold`, ...), no
            column of a target, and holds numbers only.

    Raises:
        DataError: The file is missing or no CSV, a column or cell is missing or wrong, an id stands twice, a
            patient stands in two splits, or a file lies outside of the folder and its `roots`. The message
            names the row as a spreadsheet counts it (header = row 1).
    """
    path = Path(path)
    table = read_csv(path)
    for key in KEYS:
        if key not in table.columns:
            hint = nearest(key, table.columns)
            raise DataError(
                f"{path}: no column {key!r}{hint}. A manifest has the columns {', '.join(KEYS)} and one column "
                "per label; `clinvit prepare` makes one from other layouts."
            )
        empty = np.flatnonzero(table[key].str.strip() == "")
        if len(empty):
            raise DataError(f"{path}: row {empty[0] + 2}: the cell {key!r} is empty ({len(empty)} in all). Fill it in.")
    _refuse_repeated_ids(path, table)
    wrong = np.flatnonzero(~table["split"].isin(SPLITS))
    if len(wrong):
        cell = table["split"].iloc[wrong[0]]
        raise DataError(f"{path}: row {wrong[0] + 2}: split {cell!r}; a split is one of {', '.join(SPLITS)}.")
    table["patient"], notes = tidy_patients(path, table)
    refuse_patient_overlap(path, table)
    meaning, roots, named, signature, targets = _beside(path.with_suffix(".json"))
    kinds = [each for each in targets if labels is None or each.name in labels]
    if labels is None:
        found = _label_columns(table, named, {column for each in targets for column in each.cells})
    else:
        found = tuple(label for label in labels if label not in {each.name for each in kinds})
    for each in kinds:
        values = target_cells(path, table, each)
        table = table.assign(**dict(zip(each.truth, values.T)))
        notes = (*notes, *filter(None, [differing_patients(each, table["patient"], values)]))
    for label in found:
        if label not in table.columns:
            raise DataError(f"{path}: no label column {label!r}{nearest(label, table.columns)}.")
        table[label] = label_cells(path, table, label, named=labels is not None)
    if groups_of(found):
        truth = settled(str(path), found, table[list(found)].to_numpy(np.float64))
        table = table.assign(**dict(zip(found, truth.T)))
    for column in ("path", "annotation", *filter(_names_masks, table.columns)):
        if column in table and column not in found:
            refuse_outside(path, column, table[column].str.strip(), roots, signature)
    return Manifest(path, table, found, meaning, notes, tuple(kinds))


def write_manifest(
    path: str | Path,
    table: pd.DataFrame,
    labels: Iterable[str] = (),
    meaning: dict[str, str] | None = None,
    roots: Sequence[str] = (),
    left_out: Mapping[str, int] | None = None,
    holds: str = "",
    columns: Sequence[Mapping[str, str]] = (),
    targets: Sequence[Target] = (),
) -> None:
    """Write a manifest atomically; label columns become 0, 1 or empty.

    What 1 means, the folders outside of its own in which its files may lie, how many files of the data set are no
    cases, by reason, what a case in its folders is (as of `contents.contents`), what each column of its table was taken
    for, labels whose names are those of covariates, and the kinds of the targets that are no labels, stand in a JSON
    beside it.
    """
    table, labels = table.copy(), list(labels)
    for label in labels:
        table[label] = table[label].astype("Float64").astype("Int64")
    beside = Path(path).with_suffix(".json")
    unlike = [label for label in labels if is_covariate(label)]
    if meaning or roots or left_out or holds or columns or unlike or targets or beside.is_file():
        facts = {
            "meaning": dict(meaning or {}), "roots": list(roots), "left_out": dict(left_out or {}),
            "holds": holds, "columns": list(columns), "labels": unlike,
            "signature": signature_of(Path(path), roots) if roots else "",
            "targets": {each.name: each.declared() for each in targets},
        }  # fmt: skip
        write_json(beside, {key: value for key, value in facts.items() if value})
    write_csv(path, table)


@dataclass(frozen=True, eq=False)
class Predictions:
    """A validated predictions table.

    Attributes:
        path: The CSV file it came from.
        table: `id, patient, split, status, reason` (and `decision`, where the file has it) as strings,
            `y_<label>` and `p_<label>` as float64 (NaN where unknown or failed).
        labels: The labels, in file order.
        notes: What was changed in reading, and what is doubtful, in sentences.
        kind: `exclusive` or `multi-label`, where a user has said which; else empty.
        targets: Of a table of numbers, grades or times, which has no labels.
    """

    path: Path
    table: pd.DataFrame
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    kind: str = ""
    targets: tuple[Target, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, *splits: str) -> "Predictions":
        """Return the cases of the named splits."""
        return replace(self, table=self.table[self.table["split"].isin(splits)].reset_index(drop=True))

    def scored(self) -> "Predictions":
        """Return the cases with status `ok`."""
        return replace(self, table=self.table[self.table["status"] == "ok"].reset_index(drop=True))

    def failed(self) -> "Predictions":
        """Return the cases with status `failed`."""
        return replace(self, table=self.table[self.table["status"] == "failed"].reset_index(drop=True))

    def truth(self) -> np.ndarray:
        """Return (N, L) float64 of 0, 1, NaN (unknown)."""
        return self.table[[f"y_{label}" for label in self.labels]].to_numpy(np.float64)

    def scores(self) -> np.ndarray:
        """Return (N, L) float64 probabilities in 0..1, NaN for failed cases."""
        return self.table[[f"p_{label}" for label in self.labels]].to_numpy(np.float64)

    def decisions(self) -> np.ndarray | None:
        """Return (N,) places of the decided labels in `labels`, -1 for failed cases.

        None without a column `decision`.
        """
        if "decision" not in self.table.columns:
            return None
        return pd.Index(self.labels).get_indexer(self.table["decision"])


def predictions_table(
    cases: pd.DataFrame,
    labels: Sequence[str],
    truth: np.ndarray,
    scores: np.ndarray,
    reasons: Sequence[str],
    decision: Sequence[str] | None = None,
    targets: Sequence[Target] = (),
) -> pd.DataFrame:
    """Put a predictions table together: one row per case, failed cases with empty scores and no decision.

    Args:
        cases: Rows with `id`, `patient`, `split`.
        labels: L names.
        truth: (N, L) of 0, 1, NaN.
        scores: (N, L) probabilities; rows of failed cases are ignored.
        reasons: N texts, empty where the case went well.
        decision: N names of labels, where a rule decides that is not the largest score (a cascade of thresholds);
            those of failed cases are ignored.
        targets: Of a model of numbers, grades or times, which has no labels: (N, T) truth and (N, S) scores are theirs.
    """
    return pd.DataFrame(prediction_columns(cases, labels, truth, scores, reasons, decision, targets))


def write_predictions(path: str | Path, table: pd.DataFrame) -> None:
    """Write a predictions table atomically; truth of labels becomes 0, 1 or empty, numbers keep 7 digits."""
    table = table.copy()
    for column in table.columns:
        if column.startswith("y_") and f"p_{column[2:]}" in table:
            table[column] = table[column].astype("Float64").astype("Int64")
    write_csv(path, table, float_format=DIGITS)


def read_predictions(path: str | Path, targets: bool = False) -> Predictions:
    """Read and check a predictions table.

    Args:
        path: The CSV file.
        targets: Whether one of numbers, grades or times is taken too.

    Raises:
        DataError: A column is missing, an id stands twice, a patient is not named or stands in two splits, a truth is
            not 0, 1 or empty, a score is not within 0..1, a scored case has no score or no decision, a failed case
            carries one, or a decision is no label.
    """
    return checked_predictions(Path(path), read_csv(Path(path)), targets)


def checked_predictions(path: Path, table: pd.DataFrame, targets: bool = False) -> Predictions:
    """Return a predictions table of text cells as numbers, checked as by `read_predictions`.

    Args:
        path: What messages call the table.
        table: All cells as text, '' where empty. It is changed.
        targets: As of `read_predictions`.
    """
    for key in ("id", "patient", "split", "status", "reason"):
        if key not in table.columns:
            raise DataError(f"{path}: no column {key!r}{nearest(key, table.columns)}. Is this a predictions.csv?")
    labels = tuple(column[2:] for column in table.columns if column.startswith("p_"))
    found = () if labels else found_targets(table.columns)
    if found and not targets:
        names = ", ".join(f"{each.name} ({each.kind})" for each in found)
        raise DataError(f"{path}: predictions of {names}; this is for findings, with columns y_<label> and p_<label>.")
    if not labels and not found:
        raise DataError(f"{path}: no score columns (p_<label>). Is this a predictions.csv?")
    _refuse_repeated_ids(path, table)
    table["patient"], notes = tidy_patients(path, table, fold=True)
    refuse_patient_overlap(path, table, _OVERLAP)
    table["status"] = table["status"].str.strip().str.lower()
    wrong = np.flatnonzero(~table["status"].isin(["ok", "failed"]))
    if len(wrong):
        raise DataError(
            f"{path}: row {wrong[0] + 2}: status {table['status'].iloc[wrong[0]]!r}; it is `ok` or `failed`. A case "
            "without a score is `failed`."
        )
    ok = (table["status"] == "ok").to_numpy()
    for label in labels:
        if f"y_{label}" not in table.columns:
            raise DataError(f"{path}: no column 'y_{label}' beside 'p_{label}'. Leave its cells empty if unknown.")
        table[f"y_{label}"] = label_cells(path, table, f"y_{label}", named=True)
        scores = numbers(path, table, f"p_{label}")
        with np.errstate(invalid="ignore"):
            wrong = np.flatnonzero(ok & ~((scores >= 0) & (scores <= 1)))
        if len(wrong):
            raise DataError(
                f"{path}: row {wrong[0] + 2}: score {table[f'p_{label}'].iloc[wrong[0]]!r} for {label!r}; a scored "
                f"case needs a probability within 0..1. {_remedy(scores[ok])}"
            )
        if not np.isnan(scores[~ok]).all():
            row = np.flatnonzero(~ok & ~np.isnan(scores))[0] + 2
            raise DataError(f"{path}: row {row}: a failed case carries a score for {label!r}. Leave the cell empty.")
        table[f"p_{label}"] = scores
    if "decision" in table.columns and labels:
        _refuse_wrong_decisions(path, table["decision"], labels, ok)
    for each in found:
        table, more = checked_target(path, table, each, ok)
        notes = notes + more
    return Predictions(path, table, labels, notes + doubtful_patients(table["patient"]), targets=found)


def _remedy(scores: np.ndarray) -> str:
    """Say what to do with scores of which one is no probability."""
    known = scores[np.isfinite(scores)]
    if len(known) and known.min() >= 0 and 1 < known.max() <= 100 and (known > 1).mean() > _MANY:
        return "If these are percent, divide them by 100."
    if len(known) and known.min() < 0 and ((known < 0) | (known > 1)).mean() > _MANY:
        return "If these are logits, give their sigmoid, or of exclusive classes their softmax."
    return "Give the case status `failed` and a reason if it has none."


def refuse_patient_overlap(path: Path, table: pd.DataFrame, remedy: str = _RESPLIT) -> None:
    """Raise if a patient stands in more than one split; blanks before and after a name are no other patient."""
    pairs = pd.DataFrame({"patient": table["patient"].str.strip(), "split": table["split"]}).drop_duplicates()
    shared = pairs.loc[pairs["patient"].duplicated(keep=False), "patient"].unique()
    if len(shared):
        first = shared[0]
        where = " and ".join(sorted(pairs.loc[pairs["patient"] == first, "split"]))
        raise DataError(
            f"{path}: patient {first!r} is in {where} ({len(shared)} patients in all are in more than one split). "
            f"{remedy}"
        )


def _beside(path: Path) -> tuple[dict[str, str], list[str], list[str], str, list[Target]]:
    """Return what stands beside a manifest.

    What 1 means by label, the roots, the labels whose names are those of covariates, the roots' signature, the targets.
    """
    if not path.exists():
        return {}, [], [], "", []
    try:
        facts = read_json(path, DataError)
        meaning = {str(label): str(text) for label, text in facts.get("meaning", {}).items()}
        roots, labels = [os.fspath(root) for root in facts.get("roots", [])], [str(n) for n in facts.get("labels", [])]
        targets = [declared(str(name), own) for name, own in facts.get("targets", {}).items()]
        return meaning, roots, labels, str(facts.get("signature", "")), targets
    except DataError as error:
        raise DataError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except (OSError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not readable ({error}); it holds "
            '{"meaning": {"<label>": "what 1 means"}, "roots": ["<folder>"]}. Mend or remove it.'
        ) from None


def _refuse_repeated_ids(path: Path, table: pd.DataFrame) -> None:
    repeated = np.flatnonzero(table["id"].duplicated())
    if len(repeated):
        raise DataError(
            f"{path}: row {repeated[0] + 2}: id {table['id'].iloc[repeated[0]]!r} stands twice "
            f"({len(repeated)} repeated in all). Ids are unique."
        )


def mask_column(columns: Iterable[str], labels: Sequence[str], label: str) -> str:
    """Return the column that names files of masks of a label; empty where there is none.

    It is called `mask_<label>`, of a manifest with one label also `mask`.
    """
    names = (f"mask_{label}", *["mask"] * (len(labels) == 1))
    return next((name for name in names if name in columns), "")


def _names_masks(column: str) -> bool:
    return column == "mask" or column.startswith("mask_")


def _label_columns(table: pd.DataFrame, named: Sequence[str], of_targets: set[str]) -> tuple[str, ...]:
    return tuple(
        column
        for column in table.columns
        if column not in of_targets
        and not (_names_masks(column) and column.removeprefix("mask_") in table)
        and (column in named or (column not in KEYS and not is_covariate(column) and is_numeric(table[column])))
        and (column in named or column != "case" or is_binary(table[column]))  # numbers of cases, else cases of a study
    )


def _refuse_wrong_decisions(path: Path, cells: pd.Series, labels: tuple[str, ...], ok: np.ndarray) -> None:
    """Raise unless every scored case (`ok`, (N,) boolean) has a label as its decision and every failed one none."""
    wrong = np.flatnonzero(np.where(ok, ~cells.isin(labels), cells != ""))
    if not len(wrong):
        return
    row, cell = wrong[0] + 2, cells.iloc[wrong[0]]
    if not ok[wrong[0]]:
        raise DataError(f"{path}: row {row}: a failed case carries the decision {cell!r}. Leave the cell empty.")
    if not cell:
        raise DataError(
            f"{path}: row {row}: a scored case without decision. Name one of the labels, or remove the column "
            "'decision': then the largest score decides."
        )
    raise DataError(
        f"{path}: row {row}: decision {cell!r} is none of the labels{nearest(cell, labels)}. The labels are the names "
        "behind p_ in the header."
    )
