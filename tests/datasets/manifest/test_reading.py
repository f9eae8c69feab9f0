"""Tables as people save them: separators, encodings, marks, commas too many, Excel."""

import gzip

import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.reading import read_csv

ROWS = [["Datei", "Größe", "EF"], ["a 1.png", "groß", "29,4"], ["b.png", "", "31"]]


def text(separator, rows=ROWS):
    return "\r\n".join(separator.join(f'"{c}"' if separator in c else c for c in row) for row in rows) + "\r\n"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("named", [False, True])
def test_separator_and_encoding_are_found_and_said(tmp_path, separator, encoding, named):
    path = tmp_path / "t.csv"
    path.write_bytes(((f"sep={separator}\r\n" if named else "") + text(separator)).encode(encoding))
    table = read_csv(path)
    assert [list(table.columns), *table.to_numpy().tolist()] == ROWS
    notes = " ".join(table.attrs["notes"])
    assert bool(notes) == (separator != "," or not encoding.startswith("utf-8"))
    assert ("cp1252" in notes) == (encoding == "cp1252") and ("semicolons" in notes) == (separator == ";")


def test_gzip_and_several_labels_in_a_cell_do_not_change_the_separator(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"path,findings\na.png,Mass|Edema|Hernia\nb.png,Mass|Edema|Hernia\n"))
    assert read_csv(path)["findings"].tolist() == ["Mass|Edema|Hernia"] * 2


@pytest.mark.parametrize("longer", [(1, 2), (2,)])
def test_separators_after_the_last_cell_shift_nothing(tmp_path, longer):
    rows = ["path,mass", "a.png,1", "b.png,0"]
    (tmp_path / "t.csv").write_text("\n".join(row + "," * (i in longer) for i, row in enumerate(rows)) + "\n")
    table = read_csv(tmp_path / "t.csv")
    assert table.to_dict("list") == {"path": ["a.png", "b.png"], "mass": ["1", "0"]}
    assert f"{len(longer)} rows end with more separators" in " ".join(table.attrs["notes"])


def test_a_column_without_name_and_cells_is_none(tmp_path):
    (tmp_path / "t.csv").write_text("path , mass,\na.png,1,\n")
    assert list(read_csv(tmp_path / "t.csv").columns) == ["path", "mass"]


@pytest.mark.parametrize("row", ["a.png,1,2\nb.png,1\n", "b.png,1\na.png,1,2\n"])
def test_a_row_with_a_cell_too_many_is_named(tmp_path, row):
    (tmp_path / "t.csv").write_text("path,mass\n" + row)
    with pytest.raises(DataError, match=f"row {2 if row.startswith('a') else 3} has 3 cells, the header 2"):
        read_csv(tmp_path / "t.csv")


def test_a_column_that_stands_twice_is_numbered_and_said(tmp_path):
    (tmp_path / "t.csv").write_text("path,mass,mass\na.png,1,0\n")
    table = read_csv(tmp_path / "t.csv")
    assert list(table.columns) == ["path", "mass", "mass.1"] and table.attrs["repeated"] == ["mass"]
    assert "stands 2 times" in table.attrs["notes"][0]


def test_excel_is_read(tmp_path):
    pytest.importorskip("openpyxl")
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame({"path": ["a.png", "b.png"], "patient": ["001", "002"], "mass": [1, None]}).to_excel(
            book, index=False
        )
        pd.DataFrame({"x": [1]}).to_excel(book, sheet_name="more", index=False)
    table = read_csv(tmp_path / "t.xlsx")
    assert table["patient"].tolist() == ["001", "002"] and table["mass"].astype(str).str.strip(".0").tolist() == [
        "1", "",
    ]  # fmt: skip
    assert "the other sheets (more) were not read" in " ".join(table.attrs["notes"])


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"a,b\n", "no rows"), (b"", "not a readable CSV"), (b"a,\x00\x00\n\x00\x01\x81\n", "readable CSV|no rows")],
)
def test_no_table_is_one_clear_error(tmp_path, content, words):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_csv(tmp_path / "t.csv")
    with pytest.raises(DataError, match="no such file"):
        read_csv(tmp_path / "none.csv")
    (tmp_path / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100))
    with pytest.raises(DataError, match="old Excel"):
        read_csv(tmp_path / "old.xls")
