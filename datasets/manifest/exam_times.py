"""When the images of a manifest were taken, as far as columns say: dates, days, years, ages, numbers of exams."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from .cells import as_numbers
from .columns import fact, joined_name, years
from .plain_cells import NOBODY

# Joined names (`joined_name`) of columns by what they hold; `fact` knows ages and follow-ups too.
_NAMES = {
    "date": "date studydate examdate examinationdate acquisitiondate contentdate imagedate dateofexam datum "
    "studiendatum untersuchungsdatum aufnahmedatum fecha fechaestudio dateexamen".split(),
    "days": "days day offset daysoffset dayssincefirst daysfromfirst studyday examday tage".split(),
    "year": "year studyyear examyear jahr aufnahmejahr année año".split(),
    "age": (),
    "exam": "exam examnumber examno visit visitnumber timepoint session untersuchungsnummer".split(),
}
_FACTS = {"age": "age", "exam": "follow_up"}
_FORMATS = ("ISO8601", "%Y%m%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y")
_DAYS = {"same day": (0, 1), "1 to 30 days": (1, 31), "31 days to 1 year": (31, 366), "1 to 3 years": (366, 1096),
         "over 3 years": (1096, np.inf)}  # fmt: skip
_YEARS = {"less than 1 year": (0, 1), "1 year": (1, 2), "2 to 4 years": (2, 5), "5 years or more": (5, np.inf)}
_EXAMS = {"same exam": (0, 1), "next exam": (1, 2), "2 to 4 exams on": (2, 5), "5 to 9 exams on": (5, 10),
          "10 or more exams on": (10, np.inf)}  # fmt: skip
_BINS = {"date": _DAYS, "days": _DAYS, "year": _YEARS, "age": _YEARS, "exam": _EXAMS}
WORDS = {"date": "dates", "days": "days", "year": "years", "age": "ages in years", "exam": "numbers of exams"}


class ExamTimes(NamedTuple):
    """When images were taken, by one column.

    Attributes:
        column: Its name.
        kind: `date`, `days`, `year`, `age` or `exam`.
        values: (N,) days, years or numbers; NaN where unknown.
        bins: By name the least difference and what it stays below.
    """

    column: str
    kind: str
    values: np.ndarray
    bins: dict[str, tuple[float, float]]


def exam_times(table: pd.DataFrame) -> tuple[list[ExamTimes], list[str]]:
    """Return what columns say of the times of images, and why others that should say it do not.

    Days, years and ages say the same more and more coarsely: the finest is taken. Numbers of exams are taken beside it.
    """
    found: list[ExamTimes] = []
    notes = []
    for kind in _NAMES:
        for column in table:
            if (kind != "exam" and found) or _kind(str(column)) != kind:
                continue
            cells = table[column].fillna("").astype(str).str.strip()
            cells = cells.mask(cells.str.casefold().isin(NOBODY), "")
            values, why = _values(kind, cells)
            if why:
                notes.append(f"{column}: not read as {WORDS[kind]}: {why}.")
            else:
                found.append(ExamTimes(str(column), kind, values, _BINS[kind]))
    return found, notes


def _kind(column: str) -> str:
    word, known = joined_name(column), fact(column)
    return next((kind for kind, names in _NAMES.items() if word in names or (known and known == _FACTS.get(kind))), "")


def _values(kind: str, cells: pd.Series) -> tuple[np.ndarray, str]:
    """Return numbers of cells, or why there are none."""
    if kind == "date":
        return _days(cells)
    values = (years(cells) if kind == "age" else as_numbers(cells)).to_numpy(float)
    odd = int((np.isnan(values) & (cells != "").to_numpy()).sum())
    if np.isnan(values).all():
        return values, "no cell is a number"
    return values, f"{odd:,} of {len(cells):,} cells are no numbers" if odd else ""


def _days(cells: pd.Series) -> tuple[np.ndarray, str]:
    """Return days since 1970 of dates in one spelling."""
    nothing, known = np.full(len(cells), np.nan), (cells != "").to_numpy()
    if not known.any():
        return nothing, "its cells are all empty"
    fitting = []
    for form in _FORMATS:
        eight_digits = cells[known].str.fullmatch(r"\d{8}").all()
        if form == "ISO8601" and eight_digits:
            continue
        dates = pd.to_datetime(cells[known], format=form, errors="coerce", utc=True)
        if dates.notna().all():
            fitting.append(dates)
    if not fitting:
        return nothing, "no one spelling of dates fits all cells (2024-03-31, 20240331, 31.03.2024)"
    if len(fitting) > 1 and not fitting[0].equals(fitting[1]):
        return nothing, "day and month cannot be told apart: write 2024-03-31"
    nothing[known] = (fitting[0] - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1) // 1
    return nothing, ""
