"""What columns say of when images were taken: their spellings, the finest of several, and why one is not read."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from clinvit.datasets.manifest.exam_times import exam_times


@pytest.mark.parametrize(
    ("column", "cells", "kind", "values"),
    [
        ("StudyDate", ["20240131", "20240301", ""], "date", [0, 30, np.nan]),
        ("date", ["2024-01-31", "2024-03-01", "unknown"], "date", [0, 30, np.nan]),
        ("exam_date", ["2024-01-31T23:59:00", "2024-03-01T00:01:00", "2024-03-01T09:00:00"], "date", [0, 30, 30]),
        ("Datum", ["31.01.2024", "01.03.2024", ""], "date", [0, 30, np.nan]),
        ("study date", ["01/31/2024", "03/01/2024", ""], "date", [0, 30, np.nan]),
        ("days", ["0", "12,5", ""], "days", [0, 12.5, np.nan]),
        ("year", ["2019", "2021", ""], "year", [0, 2, np.nan]),
        ("Patient Age", ["058Y", "006M", ""], "age", [0, -57.5, np.nan]),
        ("Follow-up #", ["0", "3", ""], "exam", [0, 3, np.nan]),
        ("follow_up", [0, 3, 4], "exam", [0, 3, 4]),
    ],
)
def test_spellings_of_times(column, cells, kind, values):
    found, notes = exam_times(pd.DataFrame({column: cells}))
    assert [each.kind for each in found] == [kind] and not notes
    assert found[0].values - found[0].values[0] == pytest.approx(values, nan_ok=True)


def test_the_finest_is_taken_and_numbers_of_exams_beside_it():
    table = pd.DataFrame({"age": ["50", "51"], "follow_up": ["0", "1"], "date": ["2020-01-01", "2021-01-01"]})
    assert [each.column for each in exam_times(table)[0]] == ["date", "follow_up"]
    assert [each.column for each in exam_times(table.drop(columns="date"))[0]] == ["age", "follow_up"]


@pytest.mark.parametrize(
    ("column", "cells", "why"),
    [
        ("date", ["03/04/2024", "05/06/2024"], "day and month cannot be told apart"),
        ("date", ["2024-01-31", "yesterday"], "no one spelling"),
        ("date", ["", ""], "all empty"),
        ("days", ["5", "soon"], "1 of 2 cells are no numbers"),
        ("visit", ["first", "second"], "no cell is a number"),
    ],
)
def test_a_column_that_cannot_be_read_says_why(column, cells, why):
    found, notes = exam_times(pd.DataFrame({column: cells}))
    assert not found and len(notes) == 1 and column in notes[0] and why in notes[0]


def test_other_columns_are_no_times_and_bins_leave_no_gap():
    assert exam_times(pd.DataFrame({"Mass": ["0", "1"], "study": ["1", "2"]})) == ([], [])
    for each in exam_times(pd.DataFrame({"date": ["2020-01-01"], "follow_up": ["1"]}))[0]:
        ends = list(each.bins.values())
        assert ends[0][0] == 0 and ends[-1][1] == np.inf
        assert all(before[1] == after[0] for before, after in pairwise(ends))
