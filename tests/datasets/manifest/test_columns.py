"""What columns of people's tables are taken for: words of labels, odd cells, covariates, names in lists, readers."""

import json
import unicodedata

import numpy as np
import pytest
from clinvit.cli import main
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.columns import describe, fact_cells, read_label
from clinvit.datasets.manifest.own import read_own_csv
from clinvit.datasets.manifest.tables import read_manifest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pandas import Series

COUNT = 24
WORDS = [("1", "0"), ("True", "False"), ("yes", "no"), ("ja", "nein"), ("pos", "neg"), ("present", "absent"),
         ("1.0", "0.0"), ("1,0", "0,0"), ("Positive", "Negative"), ("Y", "N"), ("+", "-"),
         ("vorhanden", "nicht vorhanden"),
         ("présent", "absent"), ("presente", "ausente"), ("x", "0")]  # fmt: skip
# Not of every encoding.
BEYOND = [
    ("detected", "not detected"),
    ("sim", "não"),
    ("tak", "nie"),
    ("да", "нет"),
    ("是", "否"),
    ("１", "０"),
    ("1\u200b", "0\u200b"),
    ("\ufeffyes", "no"),
]


def data_set(root, columns, separator=",", encoding="utf-8"):
    """Write a file per row and a table; a column `path` is added where there is none."""
    columns = {"path": [f"images/x{i:02}.png" for i in range(COUNT)]} | columns
    for i in range(COUNT):
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "images" / f"x{i:02}.png").write_bytes(b"x")
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    cells = [[f'"{c}"' if separator in str(c) else str(c) for c in row] for row in rows]
    (root / "own.csv").write_bytes(("\n".join(separator.join(row) for row in cells) + "\n").encode(encoding))
    return root / "own.csv"


def patients():
    return [f"p{i // 2}" for i in range(COUNT)]


@pytest.mark.parametrize(("yes", "no"), [*WORDS, *BEYOND])
def test_words_of_labels_are_read(tmp_path, yes, no):
    path = data_set(tmp_path, {"patient": patients(), "mass": [yes if i % 3 == 0 else no for i in range(COUNT)]})
    table, labels = read_own_csv(path)
    assert labels == ("mass",) and table["mass"].tolist() == [float(i % 3 == 0) for i in range(COUNT)]


@pytest.mark.parametrize("odd", ["-1", "0.5", "-1.0", "\u22121", "equivocal", "unklar"])
def test_an_uncertain_cell_is_masked_or_as_said_and_the_column_stays(tmp_path, odd):
    cells = ["1", odd, *["0"] * (COUNT - 2)]
    path = data_set(tmp_path, {"patient": patients(), "mass": cells})
    for uncertain, value in (("unknown", np.nan), ("ones", 1.0), ("zero", 0.0)):
        table, labels = read_own_csv(path, uncertain=uncertain)
        assert labels == ("mass",)
        np.testing.assert_equal(table["mass"].iloc[:3].tolist(), [1.0, value, 0.0])
        assert any("1 uncertain cells became" in line for line in table.attrs["notes"])
    with pytest.raises(DataError, match="there are unknown, ones, zeros"):
        read_own_csv(path, uncertain="perhaps")


def test_one_odd_cell_is_masked_with_a_warning_and_many_are_no_label(tmp_path):
    path = data_set(tmp_path, {"patient": patients(), "mass": ["7", *["0", "1"] * 11, "0"]})
    table, labels = read_own_csv(path)
    assert labels == ("mass",) and np.isnan(table["mass"][0])
    assert "mass is '7' in row 2" in table.attrs["warnings"][0]
    grades = Series(["0", "1", "2", "3"] * 6, name="grade")
    assert describe("grade", grades).taken == "left out" and "0, 1, 2" in describe("grade", grades).why


EMPTY = ["", "NA", "N/A", "null", "-", ".", "nan", "None", "NaN", "#N/A", "?", "#NV", "(null)", "\\N", "\u2014"]


@pytest.mark.parametrize("empty", EMPTY)
def test_every_way_to_write_an_empty_cell(empty):
    read = read_label(Series(["1", empty, "0"]))
    assert np.isnan(read.values[1]) and not read.odd.any() and not read.unsure.any()


COVARIATES = ["gender", "Sex", "age", "portable", "fold", "View Position", "site", "Manufacturer", "study_id", "smoker",
              "Beatmet", "Bettaufnahme", "Gerät", "intubated", "Jahr", "Fumeur", "Sexo"]  # fmt: skip


def test_covariates_are_no_labels_unless_named(tmp_path):
    rows = [str(i % 2) for i in range(COUNT)]
    columns = {"patient": patients(), "mass": rows[::-1]} | dict.fromkeys(COVARIATES, rows)
    path = data_set(tmp_path, columns)
    table, labels = read_own_csv(path)
    assert labels == ("mass",)
    taken = {each["name"]: each["taken"] for each in table.attrs["columns"]}
    assert set(taken) == {"path", *columns} and all(taken[name] in ("fact", "left out") for name in COVARIATES)
    assert read_own_csv(path, labels="mass,portable")[1] == ("mass", "portable")
    with pytest.raises(DataError, match="mass: named in not_labels"):
        read_own_csv(path, not_labels="mass")
    out = tmp_path / "m" / "manifest.csv"
    assert main(["prepare", "thorax", str(path), "--out", str(out), "--option", "labels=mass,portable"]) == 0
    assert read_manifest(out).labels == ("mass", "portable")


def test_prepare_says_and_stores_every_column(tmp_path, capsys):
    path = data_set(tmp_path, {"Patient Nr.": patients(), "Pneumonie?": ["ja", "nein"] * 12, "Geschl.": ["m", "w"] * 12,
                               "EF (%)": [f"{i},5" for i in range(COUNT)], "Diagnose": ["gut", "krank"] * 12},
                    ";", "cp1252")  # fmt: skip
    out = tmp_path / "m" / "manifest.csv"
    assert main(["prepare", "thorax", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    stored = {each["name"]: each for each in json.loads(out.with_suffix(".json").read_text())["columns"]}
    assert {name: each["taken"] for name, each in stored.items()} == {
        "path": "path", "Patient Nr.": "patient", "Pneumonie?": "label", "Geschl.": "fact", "EF (%)": "left out",
        "Diagnose": "left out",
    }  # fmt: skip
    assert stored["Pneumonie?"]["why"] == "12 present, 12 absent"
    assert all(f"column {name!r}: {each['taken']}" in printed for name, each in stored.items())
    assert read_manifest(out).table["sex"].tolist() == ["M", "F"] * 12


def test_facts_have_one_spelling():
    assert fact_cells("sex", Series(["M", "male", "männlich", "w", "Female", "x"])).tolist() == [*"MMMFF", "x"]
    assert fact_cells("sex", Series(["F", "H", "Femme"])).tolist() == [*"FMF"]
    assert fact_cells("sex", Series(["H", "M", "mujer", ""])).tolist() == [*"MFF", ""]
    assert fact_cells("age", Series(["058Y", "12M", "58", "6,5", "052W"])).tolist() == ["58", "1", "58", "6.5", "0.997"]


@pytest.mark.parametrize("cells", [("A|B", "A", "No Finding"), ("['A', 'B']", "['A']", "[]"), ("A;B", "A", "normal")])
def test_several_names_in_a_cell_are_a_label_each(tmp_path, cells):
    path = data_set(tmp_path, {"patient": patients(), "what": [cells[i % 3] for i in range(COUNT)]})
    table, labels = read_own_csv(path, class_column="what")
    assert labels == ("A", "B") and table[["A", "B"]].head(3).to_numpy().tolist() == [[1, 1], [1, 0], [0, 0]]


def test_rows_of_several_readers_are_joined_as_said(tmp_path):
    files = [f"images/x{i // 3:02}.png" for i in range(COUNT)]
    cells = ["1", "1", "0", "0", "0", "1", "1", "1", "1", *["0"] * 15]
    path = data_set(tmp_path, {"path": files, "patient": [f"p{i // 3}" for i in range(COUNT)], "mass": cells})
    with pytest.raises(DataError, match="--option readers=majority"):
        read_own_csv(path)
    for readers, first in (("majority", [1, 0, 1]), ("any", [1, 1, 1]), ("all", [0, 0, 1])):
        table, _ = read_own_csv(path, readers=readers)
        assert len(table) == 8 and table["mass"].tolist() == [*first, 0, 0, 0, 0, 0]
        assert any("16 further rows" in line for line in table.attrs["notes"])


NAMES = ["x{:02}", "x{:02}.png", "X{:02}.PNG", "images/x{:02}", "elsewhere/x{:02}.png", "x{:02}.dcm"]


@pytest.mark.parametrize("name", NAMES)
def test_files_are_found_by_their_names(tmp_path, name):
    path = data_set(tmp_path, {"path": [name.format(i) for i in range(COUNT)], "patient": patients(),
                               "mass": ["0", "1"] * 12})  # fmt: skip
    table, _ = read_own_csv(path)
    assert table["path"].tolist() == [f"images/x{i:02}.png" for i in range(COUNT)]
    assert any("24 files were found" in line for line in table.attrs["notes"])


def test_unicode_forms_are_one_name_and_two_files_of_a_name_are_named(tmp_path):
    name = unicodedata.normalize("NFD", "Müller")
    path = data_set(tmp_path, {"path": ["Müller.png", *(f"x{i:02}" for i in range(1, COUNT))], "patient": patients(),
                               "mass": ["0", "1"] * 12})  # fmt: skip
    (tmp_path / "images" / f"{name}.png").write_bytes(b"x")
    assert read_own_csv(path)[0]["path"][0] == f"images/{name}.png"
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x01.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"row 3: 'x01' fits 2 files, images/x01\.png and more/x01\.png"):
        read_own_csv(path)


@settings(max_examples=30, deadline=None)
@given(
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
    order=st.permutations(["path", "patient", "Größe", "mass", "edema", "Geschlecht"]),
    words=st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)),
    empty=st.sampled_from(["", "NA", "null", "-", "None"]),
)
def test_a_table_means_the_same_however_it_was_saved(tmp_path_factory, separator, encoding, order, words, empty):
    assume(empty != words[0][1])  # a cell of "-" is empty, or absent beside "+"
    truth = {"mass": [(1, 0, None)[i % 3] for i in range(COUNT)], "edema": [(1, 0)[i % 2] for i in range(COUNT)]}
    columns = {"path": [f"images/x{i:02}.png" for i in range(COUNT)], "patient": patients(),
               "Größe": [f"{150 + i},5" for i in range(COUNT)], "Geschlecht": ["männlich", "w"] * 12}  # fmt: skip
    for (label, values), (yes, no) in zip(truth.items(), words, strict=True):
        columns[label] = [{1: yes, 0: no, None: empty}[value] for value in values]
    root = tmp_path_factory.mktemp("t")
    table, labels = read_own_csv(data_set(root, {name: columns[name] for name in order}, separator, encoding))
    assert set(labels) == set(truth)
    for label, values in truth.items():
        np.testing.assert_equal(table[label].tolist(), [np.nan if value is None else float(value) for value in values])
    assert table["path"].tolist() == columns["path"] and table["sex"].tolist() == ["M", "F"] * 12
    assert table["patient"].tolist() == columns["patient"]


@pytest.mark.parametrize(("name", "words"), [
    ("Split", ("Train", "VALIDATION", "Test ")), ("dataset", ("training", "val", "test")),
    ("cohort part", ("train", "dev", "testing")),
])  # fmt: skip
def test_a_column_of_split_words_is_the_split_whatever_its_name(tmp_path, name, words):
    columns = {"patient": patients(), "mass": [i % 2 for i in range(COUNT)]}
    columns |= {name: [words[i // 2 % 3] for i in range(COUNT)]}
    table, labels = read_own_csv(data_set(tmp_path, columns))
    assert labels == ("mass",) and table["split"].tolist() == [
        ("train", "val", "test")[i // 2 % 3] for i in range(COUNT)
    ]
    assert any(f"column {name!r}: split" in text for text in table.attrs["notes"])


def test_marks_of_what_is_present_alone(tmp_path):
    columns = {"patient": patients(), "mass": ["x" if i % 3 else "" for i in range(COUNT)]}
    path = data_set(tmp_path, columns)
    table, _ = read_own_csv(path)
    assert table["mass"].isna().sum() == 8 and any("blanks=zeros" in text for text in table.attrs["notes"])
    assert read_own_csv(path, blanks="zero")[0]["mass"].tolist() == [float(i % 3 > 0) for i in range(COUNT)]
    with pytest.raises(DataError, match="did you mean 'zeros'"):
        read_own_csv(path, blanks="zeroes")


def test_cells_that_may_name_several_findings_are_said(tmp_path):
    columns = {"patient": patients(), "kind": [("Mass, Effusion", "Effusion", "Normal")[i % 3] for i in range(COUNT)]}
    table, labels = read_own_csv(data_set(tmp_path, columns), class_column="kind")
    assert len(labels) == 3 and any("'Mass, Effusion' were taken as one class" in w for w in table.attrs["warnings"])


def test_words_for_what_nobody_knows_and_questions(tmp_path):
    cells = [("Yes", "no", "unknown", "N/A", "uncertain", "yes?", "k.A.", "not recorded")[i % 8] for i in range(COUNT)]
    table, labels = read_own_csv(data_set(tmp_path, {"patient": patients(), "mass": cells}), uncertain="ones")
    expected = [(1, 0, None, None, 1, 1, None, None)[i % 8] for i in range(COUNT)]
    assert labels == ("mass",) and [None if v != v else int(v) for v in table["mass"]] == expected


def test_columns_in_spanish_and_french(tmp_path):
    rows = {"paciente": patients(), "Neumonía": ["no", "sí"] * 12, "sexo": ["M", "H"] * 12, "edad": ["41"] * 24}
    table, labels = read_own_csv(data_set(tmp_path, rows))
    assert labels == ("Neumonía",) and table["sex"].tolist() == ["F", "M"] * 12 and set(table["age"]) == {"41"}
    table, labels = read_own_csv(
        data_set(tmp_path, {"patient": patients(), "A": ["non", "oui"] * 12, "âge": ["41"] * 24})
    )
    assert labels == ("A",) and set(table["age"]) == {"41"}
