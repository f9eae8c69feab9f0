"""The cohort table: counts by hand, and what is left out of it."""

import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.tables import Manifest
from clinvit.eval.report.cohort_section import cohort_section, quartiles_text, share_text
from clinvit.eval.statistics.cohort import Count, cohort


def manifest(tmp_path, **columns):
    """Six cases of four patients, four of them to train on."""
    table = pd.DataFrame(
        {
            "id": [f"c{i}" for i in range(6)],
            "path": [f"{i}.png" for i in range(6)],
            "patient": ["a", "a", "b", "c", "d", "d"],
            "split": ["train"] * 4 + ["test"] * 2,
            "mass": [1.0, 0, 0, 1, 0, 1],
        }
        | columns
    )
    return Manifest(tmp_path / "manifest.csv", table, ("mass",))


def test_counts_by_split(tmp_path):
    found = cohort(
        manifest(tmp_path, sex=["F", "F", "M", "", "NA", "M"], age=["30", "30", "50", "70", "", ""], note=["same"] * 6)
    )
    assert found.splits == ("train", "test")
    assert found.sizes == (Count(4, 3), Count(2, 1))
    sex, age, note = found.columns
    assert sex.categories == {"F": (Count(2, 1), Count(0, 0)), "M": (Count(1, 1), Count(1, 1))}
    assert (sex.recorded, sex.missing) == ((3, 1), (1, 1))
    assert age.quartiles[0] == (40, 30, 55, 30, 70)
    assert age.missing == (0, 2)
    assert quartiles_text(age.quartiles[0]) == ("40 (30–55)", "30–70")
    assert quartiles_text(age.quartiles[1]) == ("–", "")
    assert note.categories == {"same": (Count(4, 3), Count(2, 1))}
    assert share_text(sex.categories["F"][0], 3) == "66.7 %"
    assert share_text(sex.categories["F"][1], 0) == ""


def test_what_is_no_description_is_named_as_left_out(tmp_path):
    found = cohort(
        manifest(
            tmp_path, study=["1", "2", "3", "4", "5", "6"], annotation=["x/a.xml", "", "", "", "", ""], empty=[""] * 6
        )
    )
    assert found.columns == []
    assert found.left_out == {
        "study": "an identifier", "annotation": "names of files", "empty": "recorded in no case",
    }  # fmt: skip


def test_a_column_that_stands_twice_is_refused(tmp_path):
    twice = manifest(tmp_path, sex=["F"] * 6, view=["PA"] * 6)
    twice.table.columns = [*twice.table.columns[:-1], "sex"]
    with pytest.raises(DataError, match="'sex' stands twice"):
        cohort(twice)


def test_what_the_json_gets(tmp_path):
    section = cohort_section(cohort(manifest(tmp_path, sex=["F", "F", "M", "", "NA", "M"], age=["30"] * 6)))
    sex, age = section.plain["columns"]
    assert sex["splits"]["train"] == {
        "recorded": 3, "missing": 1,
        "categories": {"F": {"cases": 2, "patients": 1}, "M": {"cases": 1, "patients": 1}},
    }  # fmt: skip
    assert age["splits"]["test"]["median"] == 30
    assert section.plain["splits"]["test"] == {"cases": 2, "patients": 1}
