"""Predictions of a deployed model in the order of time, each patient once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..core.errors import DataError
from ..datasets.manifest.tables import Predictions
from .contract import Contract, cases_of, refuse_other_labels
from .statistics.drift import Cases

DATE, TRUTH_DATE = "date", "truth_date"
_NOT_NEW = ("train", "val")  # splits that say nothing of new cases


@dataclass(frozen=True, eq=False)
class Months:
    """N cases of several tables.

    Attributes:
        cases: Their values.
        tables: (N,) which table each is of.
        rows: (N,) its row there as a spreadsheet counts it (header = row 1).
        dates: (N,) ISO dates by whether truth is what counts (False, True); empty texts where none is known.
        times: (N,) ranks in time, likewise.
        notes: What was left out, in sentences without names of people.
    """

    cases: Cases
    tables: np.ndarray
    rows: np.ndarray
    dates: Mapping[bool, np.ndarray]
    times: Mapping[bool, np.ndarray]
    notes: tuple[str, ...]


def in_order(tables: Sequence[Predictions], contract: Contract) -> Months:
    """Put tables together in the order given, and within a table by the column `date` or as the rows stand.

    Where there is a column `truth_date`, what needs truth is ordered by the day on which it became known.

    Raises:
        DataError: Other labels, an id in two tables, no case that is new to the model, a date that is none or missing,
            or tables that are not in the order of time.
    """
    for table in tables:
        refuse_other_labels(table, contract.labels)
    whole = pd.concat(
        [each.table.assign(_table=i, _row=np.arange(len(each)) + 2) for i, each in enumerate(tables)], ignore_index=True
    )
    _refuse_repeated(whole, tables)
    kept, notes = _new(whole, tables)
    when = _dates(kept, tables, DATE, pd.Series(True, index=kept.index))
    if when is not None:
        _refuse_disorder(kept["_table"], when, tables)
        order = when.to_numpy().argsort(kind="stable")
        kept, when = kept.iloc[order].reset_index(drop=True), when.iloc[order].reset_index(drop=True)
    known = kept[[f"y_{label}" for label in contract.labels]].notna().any(axis=1)
    learnt = _dates(kept, tables, TRUTH_DATE, known)
    rank = np.arange(len(kept))
    times = {False: rank, True: rank if learnt is None else _ranks(learnt)}
    dates = {False: _texts(when, len(kept)), True: _texts(when if learnt is None else learnt, len(kept))}
    cases = cases_of(Predictions(tables[0].path, kept, contract.labels), contract.labels, contract.cuts(),
                     contract.exclusive)  # fmt: skip
    return Months(cases, kept["_table"].to_numpy(), kept["_row"].to_numpy(), dates, times, notes)


def _refuse_repeated(whole: pd.DataFrame, tables: Sequence[Predictions]) -> None:
    again = np.flatnonzero(whole["id"].duplicated())
    if len(again):
        row = whole.iloc[again[0]]
        first = whole[whole["id"] == row["id"]].iloc[0]
        raise DataError(
            f"{tables[row['_table']].path}: row {row['_row']}: this id stands in {tables[first['_table']].path} too, "
            f"row {first['_row']} ({len(again):,} such rows). Give each table once, with each case in one of them."
        )


def _new(whole: pd.DataFrame, tables: Sequence[Predictions]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the cases that count, and sentences on the others.

    Later cases of a patient resemble the earlier ones: they would count as evidence that they are not.
    """
    seen = whole["split"].isin(_NOT_NEW)
    if seen.all():
        raise DataError(
            f"{tables[0].path}: all cases are of the splits train and val, with which the model was made. Give "
            "predictions of cases since it was deployed."
        )
    fresh = whole[~seen]
    first = fresh.groupby(fresh["patient"].str.casefold())["_table"].transform("min")
    again = fresh["_table"] > first
    notes = []
    if seen.any():
        notes.append(f"{int(seen.sum()):,} cases of the splits train and val are left out: they made the model.")
    if again.any():
        notes.append(
            f"{int(again.sum()):,} cases are left out: their patients have cases in an earlier table, and count once."
        )
    return fresh[~again].reset_index(drop=True), tuple(notes)


def _dates(kept: pd.DataFrame, tables: Sequence[Predictions], column: str, needed: pd.Series) -> pd.Series | None:
    """Return a column of dates; None where no table has it."""
    having = [column in table.table.columns for table in tables]
    if not any(having):
        return None
    if not all(having):
        raise DataError(f"{tables[having.index(False)].path}: no column {column!r}, which other tables have. Add it.")
    found = pd.to_datetime(kept[column].str.strip(), format="ISO8601", utc=True, errors="coerce")
    wrong = np.flatnonzero(needed & found.isna())
    if len(wrong):
        row = kept.iloc[wrong[0]]
        raise DataError(
            f"{tables[row['_table']].path}: row {row['_row']}: {column} is {row[column]!r}; write it as 2026-03-31 "
            f"({len(wrong):,} such cells)."
        )
    return found


def _refuse_disorder(table: pd.Series, when: pd.Series, tables: Sequence[Predictions]) -> None:
    ends = when.groupby(table).agg(["min", "max"])
    for (one, last), (other, begin) in zip(ends["max"].items(), list(ends["min"].items())[1:]):
        if begin < last:
            raise DataError(
                f"{tables[other].path}: begins on {begin:%Y-%m-%d}, before {tables[one].path} ends ({last:%Y-%m-%d}). "
                "Give the tables in the order of time."
            )


def _ranks(when: pd.Series) -> np.ndarray:
    """Return ranks by date, of equal and missing dates by place."""
    ranks = np.empty(len(when), dtype=int)
    ranks[when.to_numpy().argsort(kind="stable")] = np.arange(len(when))
    return ranks


def _texts(when: pd.Series | None, count: int) -> np.ndarray:
    return np.full(count, "") if when is None else when.dt.strftime("%Y-%m-%d").fillna("").to_numpy()
