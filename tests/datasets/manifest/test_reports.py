"""Reports of cases, in the forms in which archives keep them."""

import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.reports import LONGEST, read_reports, sentences
from clinvit.datasets.manifest.tables import read_manifest

MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___-year-old woman with fever.

 FINDINGS:

 1. The heart size is normal.  There is no pleural
 effusion.
 2. Right lower lobe opacity, e.g. pneumonia.

 IMPRESSION:  Pneumonia.
"""


@pytest.fixture
def manifest(tmp_path):
    """Three cases of two studies, the first with a report of its own."""

    def write(**columns) -> object:
        table = {
            "id": ["a", "b", "c"], "path": ["a.png", "b.png", "c.png"], "patient": ["1", "1", "2"],
            "split": ["train"] * 3, "study": ["50", "50", "51"],
        } | columns  # fmt: skip
        pd.DataFrame(table).to_csv(tmp_path / "manifest.csv", index=False)
        return read_manifest(tmp_path / "manifest.csv", labels=())

    return write


def test_a_column_of_the_manifest(manifest):
    assert read_reports(manifest(report=["No effusion.", "", " Normal. "])) == ["No effusion.", "", "Normal."]


def test_a_column_of_reports_is_no_label_even_where_it_is_empty(tmp_path, manifest):
    manifest(report=["", "", ""], Effusion=[0, 1, 1])
    assert read_manifest(tmp_path / "manifest.csv").labels == ("Effusion",)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"id": ["b", "a"], "report": ["B.", "A."]}, ["A.", "B.", ""]),
        (
            {"study": ["s51", "s50"], "findings": ["F.", "G."], "impression": ["I.", "J."]},
            ["G.\n\nJ.", "G.\n\nJ.", "F.\n\nI."],
        ),
        ({"Study": ["51"], "Befund": ["Kein Erguss."], "other": ["x"]}, ["", "", "Kein Erguss."]),
        # Both columns are there: the one that fits more cases joins.
        ({"id": ["b", "x"], "study": ["50", "51"], "text": ["S.", "T."]}, ["S.", "S.", "T."]),
    ],
)  # fmt: skip
def test_a_table(tmp_path, manifest, columns, expected):
    pd.DataFrame(columns).to_csv(tmp_path / "reports.csv", index=False)
    assert read_reports(manifest(), tmp_path / "reports.csv") == expected


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"id": ["a"], "note": ["x"]}, "no column of text"),
        ({"name": ["a"], "report": ["x"]}, "in common"),
        ({"id": ["z"], "report": ["x"]}, "none of its rows"),
        ({"id": ["a", "a"], "report": ["x", "y"]}, "row 3.*twice"),
        ({"id": ["a"], "report": ["x" * (LONGEST + 1)]}, "no report is longer"),
    ],
)
def test_a_table_that_does_not_fit(tmp_path, manifest, columns, words):
    pd.DataFrame(columns).to_csv(tmp_path / "reports.csv", index=False)
    with pytest.raises(DataError, match=words):
        read_reports(manifest(), tmp_path / "reports.csv")


def test_text_files_in_the_folders_of_mimic_cxr(tmp_path, manifest):
    for name, text in (("p10/p10000032/s50", MIMIC.encode()), ("p11/p11000001/s51", "Früher Befund.".encode("cp1252"))):
        path = tmp_path / "files" / f"{name}.txt"
        path.parent.mkdir(parents=True)
        path.write_bytes(text)
    first, second, third = read_reports(manifest(), tmp_path / "files")
    assert first == second and "Pneumonia." in first and third == "Früher Befund."


def test_folders_without_reports_of_these_cases(tmp_path, manifest):
    (tmp_path / "files").mkdir()
    with pytest.raises(DataError, match=r"no \.txt file"):
        read_reports(manifest(), tmp_path / "files")
    (tmp_path / "files/other.txt").write_text("x")
    with pytest.raises(DataError, match="named after"):
        read_reports(manifest(), tmp_path / "files")
    for folder in ("1", "2"):
        (tmp_path / "files" / folder).mkdir()
        (tmp_path / "files" / folder / "a.txt").write_text("Normal.")
    with pytest.raises(DataError, match="whose report"):
        read_reports(manifest(), tmp_path / "files")


def test_findings_and_impression_are_cut_into_sentences():
    found = sentences([MIMIC, "Pneumonia. No effusion; no mass.", ""])
    own = [[found.texts[row] for row in rows] for rows in found.of_case]
    assert own[0] == [
        "The heart size is normal.", "There is no pleural effusion.", "Right lower lobe opacity, e.g. pneumonia.",
        "Pneumonia.",
    ]  # fmt: skip
    assert own[1][0] == "Pneumonia." and own[1][1].startswith("No effusion;") and own[2] == []
    assert len(found.texts) == len(set(found.texts))
