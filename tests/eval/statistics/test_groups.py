"""Columns as groups: bands, quarters, categories, what is not recorded, and what makes no groups."""

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.eval.statistics.groups import groups, refuse_columns, texts, usual_columns, why_no_groups
from hypothesis import given
from hypothesis import strategies as st

CELLS = st.lists(st.one_of(st.sampled_from(["", "NA", "F", "M", " F "]), st.integers(-5, 140).map(str)), min_size=1)


def told(*cells):
    return texts(pd.Series(list(cells), dtype=object))


def sizes(column, *cells):
    return {group.name: int(group.rows.sum()) for group in groups(column, told(*cells))}


@given(CELLS, st.sampled_from(["age", "x"]))
def test_every_case_is_in_exactly_one_group(cells, column):
    found = groups(column, told(*cells))
    assert (np.sum([group.rows for group in found], axis=0) == 1).all()
    assert len({group.name for group in found}) == len(found)


def test_ages_at_the_edges_of_the_bands():
    ages = ["0", "17", "17.9", "18", "39", "40", "59", "60", "79", "80", "120", "411", "-1", "", "nan"]
    assert sizes("Age", *ages) == {
        "0–17": 3, "18–39": 2, "40–59": 2, "60–79": 2, "80+": 2, "below 0 or over 120": 2, "not recorded": 2,
    }  # fmt: skip


def test_numbers_with_many_values_are_quartered_and_the_names_tell_the_edges():
    values = [str(value) for value in range(1, 101)]
    assert sizes("dose", *values) == {"up to 25": 25, "over 25 to 50": 25, "over 50 to 75": 25, "over 75": 25}
    assert sizes("dose", *map(str, [*range(9), *[50] * 90])) == {"up to 8": 9, "over 8": 90}
    assert sizes("dose", *map(str, [*range(1, 9), *[0] * 90])) == {"up to 0": 90, "over 0": 8}


def test_few_numbers_are_categories_in_rising_order_and_texts_by_frequency():
    assert list(sizes("follow_up", "10", "2", "2", "")) == ["2", "10", "not recorded"]
    assert list(sizes("view", "AP", "PA", "PA", "LL")) == ["PA", "AP", "LL"]
    scanners = sizes("scanner", *[f"s{i}" for i in range(12) for _ in range(20 - i)])
    assert list(scanners) == [*(f"s{i}" for i in range(7)), "5 other values"]
    assert scanners["5 other values"] == sum(20 - i for i in range(7, 12))


def test_labels_of_a_manifest_are_groups_too():
    cells = texts(pd.Series([1.0, 0.0, np.nan, 1.0]))
    assert {group.name: group.rows.sum() for group in groups("Edema", cells)} == {"0": 1, "1": 2, "not recorded": 1}


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([f"note {i}" for i in range(40)], "40 different values in 40 cases"),
        ([f"s{i // 3}" for i in range(600)], "200 different values in 600 cases"),
        (["a/b.xml", "c.tif", "", ""], "names of files"),
        (["inf", *(f"{i}" for i in range(40))], "41 different values"),
        (["PA", "AP/LL"] * 5, ""),
        ([str(i) for i in range(40)], ""),
        ([""] * 5, ""),
    ],
)
def test_what_makes_no_groups(cells, why):
    assert why_no_groups(told(*cells)).startswith(why)
    assert bool(why_no_groups(told(*cells))) == bool(why)


def test_usual_columns_are_those_that_tell_cases_apart():
    columns = pd.DataFrame({"site": ["a", "a"], "Sex": ["F", "M"], "age": ["", ""], "scanner": ["x", ""], "z": [1, 2]})
    assert usual_columns(columns) == ["Sex", "scanner"]


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["sxe"], UserError, r"no column 'sxe' \(did you mean 'sex'\?\): sex, note, twin, twin"),
        (["sex", "sex"], UserError, "'sex' is named twice"),
        (["note"], UserError, "'note' makes no groups"),
        (["twin"], DataError, "'twin' stands twice"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(names, error, message):
    table = pd.DataFrame([["F", f"note {i}", 0, 1] for i in range(20)], columns=["sex", "note", "twin", "twin"])
    with pytest.raises(error, match=message):
        refuse_columns(table, names)
