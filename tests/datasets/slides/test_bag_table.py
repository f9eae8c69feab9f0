"""Classical sets of bags: tables with and without names, labels of other kinds, SVM format."""

import gzip

import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.slides.bag_table import read_bag_table

TABLE = "1,b7,0.5,2\n1,b7,1.5,3\n0,b1,4,5\n0,b2,6,7\n1,b7,8,9\n"


@pytest.mark.parametrize("header", ["", "label,bag,one,two\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_tables(tmp_path, header, packed):
    path = tmp_path / ("bags.csv.gz" if packed else "bags.csv")
    (gzip.open if packed else open)(path, "wt").write(header + TABLE)
    bags = read_bag_table(path, *(("label", "bag") if header else ()))
    assert bags.ids == ("b7", "b1", "b2") and bags.labels == ("positive",) and bags.width == 2
    assert bags.targets.tolist() == [[1], [0], [0]]
    assert [bags.count(row) for row in range(3)] == [3, 1, 1]
    np.testing.assert_array_equal(bags.bag(0), [[0.5, 2], [1.5, 3], [8, 9]])
    np.testing.assert_array_equal(bags.bag(0, np.array([2])), [[8, 9]])


def test_more_classes_and_instance_labels(tmp_path):
    path = tmp_path / "bags.csv"
    path.write_text("bag,label,tile,f\nx,0,0,1\ny,2,1,2\nz,1,0,3\n")
    bags = read_bag_table(path, "label", "bag", "tile")
    assert bags.labels == ("class 0", "class 1", "class 2") and bags.targets.argmax(axis=1).tolist() == [0, 2, 1]
    assert bags.instance_labels.tolist() == [0, 1, 0] and bags.width == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TABLE.replace("0,b1", "1,b1").replace("0,b2", "1,b2"), "all 3 bags have the label 1"),
        (TABLE + "0,b7,1,1\n", "bag 'b7' has two labels"),
        (TABLE.replace("1.5", "nan"), "instance 2: column 2 is no finite number"),
        (TABLE.replace("1.5", "x"), "no finite number"),
        (TABLE.replace("1,b7", "-2,b7"), "class number from 0 on"),
        ("1,b7\n0,b1\n", "columns of their own"),
        ("", "not a readable CSV"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, words):
    path = tmp_path / "bags.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_bag_table(path)


def test_columns_that_are_not_there(tmp_path):
    path = tmp_path / "bags.csv"
    path.write_text("label,bag,f,g\n" + TABLE)
    with pytest.raises(DataError, match="did you mean 'label'"):
        read_bag_table(path, "lable", "bag")
    with pytest.raises(DataError, match="no column 9"):
        read_bag_table(path, 0, 9)


def test_musk1(shared_data):
    bags = read_bag_table(shared_data / "mil" / "musk1.csv.gz")
    assert (len(bags), bags.width, int(bags.targets.sum()), len(bags.features)) == (92, 166, 47, 476)
    assert (np.diff(bags.offsets).min(), np.diff(bags.offsets).max()) == (2, 40)


def test_names_of_instances_are_left_out_and_noted(tmp_path):
    """UCI's MUSK: molecule, conformation, features, class with a full stop."""
    path = tmp_path / "clean1.data"
    path.write_text("MUSK-188,188_1+1,42,-198,1.\nMUSK-188,188_1+2,42,-191,1.\nNON-MUSK-192,192_1+1,49,-199,0.\n")
    bags = read_bag_table(path, -1, 0)
    assert bags.ids == ("MUSK-188", "NON-MUSK-192") and bags.targets.tolist() == [[1], [0]]
    assert bags.features.tolist() == [[42, -198], [42, -191], [49, -199]]
    assert len(bags.notes) == 1 and "column 1 left out" in bags.notes[0]


@pytest.mark.parametrize("packed", [False, True])
def test_svm_format_with_labels_of_minus_one(tmp_path, packed):
    path = tmp_path / ("fox.svm.gz" if packed else "fox.svm")
    text = "0:1:1 1:0.5 3:-2\n1:1:1 2:1e-3\n\n2:7:-1 1:4 2:5 3:6\n"
    (gzip.open if packed else open)(path, "wt").write(text)
    bags = read_bag_table(path)
    assert bags.ids == ("1", "7") and bags.targets.tolist() == [[1], [0]]
    np.testing.assert_allclose(bags.features, [[0.5, 0, -2], [0, 1e-3, 0], [4, 5, 6]])
    assert "-1 is taken as 0" in bags.notes[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0:1:1 1:0.5\n1,2,3\n", "line 2 is not"),
        ("0:1:1 0:0.5\n1:2:0 1:3\n", "count from 1"),
        ("0:1:1 9999999:1\n1:2:0 1:3\n", "count from 1 to at most"),
        ("0:1:1 1:inf\n1:2:0 1:3\n", "no finite number"),
        ("0:1:1\n1:2:0\n", "count from 1"),
    ],
)
def test_svm_format_that_cannot_be_used(tmp_path, text, words):
    path = tmp_path / "bags.svm"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_bag_table(path)


def test_the_last_column_by_its_place(tmp_path):
    path = tmp_path / "bags.csv"
    path.write_text("x,1,2,0\ny,3,4,1\n")
    bags = read_bag_table(path, -1, 0)
    assert bags.features.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(DataError, match="no column -5"):
        read_bag_table(path, -5, 0)
