"""Tables of boxes, and files of maps: what is written is read again, and what is wrong is named."""

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.images.image_maps import ImageMaps, case_file, read_maps, write_maps
from clinvit.datasets.manifest.boxes import Box, read_boxes, write_boxes
from clinvit.datasets.manifest.tables import read_manifest
from hypothesis import given
from hypothesis import strategies as st

GOOD = [Box("a", "Mass", 10, 20.5, 30, 40, 1024, 1024), Box("b", "Nodule", 0, 0, 640, 480, 640, 480)]


@pytest.fixture
def manifest(tmp_path):
    rows = [("a", "a.png", "p", "test", 1, 0), ("b", "b.png", "q", "test", 0, 1)]
    pd.DataFrame(rows, columns=["id", "path", "patient", "split", "Mass", "Nodule"]).to_csv(
        tmp_path / "manifest.csv", index=False
    )
    return read_manifest(tmp_path / "manifest.csv")


def test_boxes_are_read_as_they_were_written(tmp_path, manifest):
    write_boxes(tmp_path / "boxes.csv", GOOD)
    assert read_boxes(tmp_path / "boxes.csv", manifest) == GOOD
    header = (tmp_path / "boxes.csv").read_text().splitlines()[0]
    assert header == "id,label,x_px,y_px,width_px,height_px,frame_width_px,frame_height_px"


def test_a_box_moves_with_the_size_of_the_copy():
    assert Box("a", "Mass", 256, 512, 128, 64, 1024, 1024).within(512, 256) == (128, 128, 192, 144)


@pytest.mark.parametrize(
    "row, message",
    [
        ("c,Mass,1,1,2,2,9,9", r"row 3: unknown case 'c'; .*manifest.csv has no such row"),
        ("a,Mas,1,1,2,2,9,9", r"row 3: unknown finding 'Mas' \(did you mean 'Mass'\?\)"),
        ("a,Mass,x,1,2,2,9,9", "row 3: x_px is 'x', not a number"),
        ("a,Mass,1,,2,2,9,9", "row 3: y_px is '', not a number"),
        ("a,Mass,1,1,inf,2,9,9", "row 3: width_px is 'inf', not a number"),
        ("a,Mass,1,1,0,2,9,9", "row 3: a box without area"),
        ("a,Mass,1,1,2,-2,9,9", "row 3: a box without area"),
        ("a,Mass,-1,1,2,2,9,9", r"row 3: the box from \(-1, 1\) to \(1, 3\) lies outside of its frame of 9 x 9 px"),
        ("a,Mass,8,1,2,2,9,9", "row 3: .* outside of its frame"),
        ("a,Mass,1,8,2,2,9,9", "row 3: .* outside of its frame"),
    ],
)
def test_what_is_wrong_with_a_box_is_named(tmp_path, manifest, row, message):
    write_boxes(tmp_path / "boxes.csv", GOOD[:1])
    with (tmp_path / "boxes.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(DataError, match=message):
        read_boxes(tmp_path / "boxes.csv", manifest)


def test_a_column_that_is_missing_is_named(tmp_path, manifest):
    (tmp_path / "boxes.csv").write_text("id,label,x,y_px,width_px,height_px\na,Mass,1,1,2,2\n")
    with pytest.raises(DataError, match=r"no column 'x_px'.* A table of boxes has id, label, x_px"):
        read_boxes(tmp_path / "boxes.csv", manifest)
    with pytest.raises(DataError, match="no such file"):
        read_boxes(tmp_path / "none.csv", manifest)


@given(st.lists(st.text(min_size=1, max_size=300), min_size=2, max_size=5, unique=True))
def test_every_id_has_a_file_of_its_own_inside_of_the_folder(ids):
    encodable = [case for case in ids if case.isascii() or not any("\ud800" <= c <= "\udfff" for c in case)]
    files = [case_file("/folder", case, ".h5") for case in encodable]
    assert len(set(files)) == len(files)
    assert all(str(file.parent) == "/folder" and len(file.name.encode()) < 200 for file in files)


def maps(**changes) -> ImageMaps:
    values = np.array([[[0, 1], [2, 4.0]], [[0, 0], [0, 0]]])
    facts = {
        "id": "../ä", "labels": ("Mass", "Nodule"), "maps": values, "extent_px": (-3.5, 0, 103.5, 90), "width_px": 100,
        "height_px": 90, "method": "gradient", "model": "abc",
    }  # fmt: skip
    return ImageMaps(**facts | changes)


def test_maps_are_read_as_they_were_written_but_for_their_scale(tmp_path):
    path = case_file(tmp_path, "../ä", ".h5")
    write_maps(path, maps())
    found = read_maps(path)
    assert (found.id, found.labels, found.extent_px, found.width_px, found.height_px, found.method, found.model) == (
        "../ä", ("Mass", "Nodule"), (-3.5, 0, 103.5, 90), 100, 90, "gradient", "abc",
    )  # fmt: skip
    assert found.maps.tolist() == [[[0, 0.25], [0.5, 1]], [[0, 0], [0, 0]]]
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "nothing outside of the folder"


def test_maps_that_are_none_are_refused(tmp_path):
    for bad in (np.nan, np.inf, -1):
        with pytest.raises(DataError, match="no number"):
            write_maps(tmp_path / "x.h5", maps(maps=np.full((2, 2, 2), bad)))
    with pytest.raises(DataError, match="no such file"):
        read_maps(tmp_path / "x.h5")
    (tmp_path / "x.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="no readable maps of an image"):
        read_maps(tmp_path / "x.h5")
    write_maps(tmp_path / "y.h5", maps(labels=("Mass",)))
    with pytest.raises(DataError, match="for 1 labels"):
        read_maps(tmp_path / "y.h5")
