"""Boxes in a person's table: corners or sizes, classes or labels, one manifest row per image, boxes beside it."""

import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.boxes import BOXES, read_boxes
from clinvit.stages.prepare import prepare_stage
from clinvit.tasks.thorax.layouts import LAYOUTS
from PIL import Image


def images(root, count=12, size=(80, 60)):
    root.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("L", size, number).save(root / f"{number}.png")


def prepared(root, *lines, **options):
    images(root / "images")
    (root / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = prepare_stage(LAYOUTS, root / "table.csv", root / "m" / "manifest.csv", options=options)
    return found, read_boxes(root / "m" / BOXES, found.manifest)


@pytest.mark.parametrize(
    ("names", "cells"),
    [
        ("x_min,y_min,x_max,y_max", "10,20,30.5,44"), ("xmin,ymin,xmax,ymax", "10,20,30.5,44"),
        ("x1,y1,x2,y2", "10,20,30.5,44"), ("x,y,width,height", "10,20,20.5,24"),
        ("bbox_x,bbox_y,bbox_w,bbox_h", "10,20,20.5,24"), ("Left;Top;Width;Height", "10,0;20,0;20,5;24,0"),
    ],
)  # fmt: skip
def test_boxes_of_a_table_with_a_class_column(tmp_path, names, cells):
    sep = ";" if ";" in names else ","
    rows = [sep.join(("image_id", "patient_id", "class_name", names))]
    for number in range(12):
        for kind in ("Mass", "Nodule")[: 1 + number % 2] if number % 3 else ():
            rows.append(sep.join((f"{number}.png", f"p{number}", kind, cells)))
        if number % 3 == 0:
            rows.append(sep.join((f"{number}.png", f"p{number}", "No finding", sep * 3)))
    found, boxes = prepared(tmp_path, *rows, path_column="image_id", class_column="class_name")
    assert len(found.manifest) == 12 and found.manifest.labels == ("Mass", "Nodule")
    table = found.manifest.table.set_index("id")
    assert table.loc["images/1", ["Mass", "Nodule"]].tolist() == [1, 1]
    assert table.loc["images/0", ["Mass", "Nodule"]].tolist() == [0, 0]
    assert len(boxes) == 12 and {box.label for box in boxes} == {"Mass", "Nodule"}
    assert boxes[0][2:] == (10, 20, 20.5, 24, 80, 60)
    assert any("12 boxes of 8 images" in text for text in found.notes)
    assert any("column 'class_name': class" in text for text in found.notes)
    assert sum("box (a box around" in text for text in found.notes) == 4


def test_boxes_of_a_table_with_labels_and_the_size_of_its_images(tmp_path):
    rows = ["path,patient,image_width,image_height,x,y,width,height,Opacity,Fracture"]
    for number in range(12):
        rows.append(f"images/{number}.png,p{number},800,600,100,100,50,60,1,0" if number % 2 else
                    f"images/{number}.png,p{number},800,600,,,,,0,0")  # fmt: skip
        if number == 3:
            rows.append("images/3.png,p3,800,600,790,590,50,60,0,1")
    found, boxes = prepared(tmp_path, *rows)
    assert found.manifest.labels == ("Opacity", "Fracture") and len(found.manifest) == 12
    assert found.manifest.table.set_index("id").loc["images/3", ["Opacity", "Fracture"]].tolist() == [1, 1]
    assert len(boxes) == 7 and boxes[0][2:] == (100, 100, 50, 60, 800, 600)
    (cut,) = [box for box in boxes if box.label == "Fracture"]
    assert cut[2:] == (790, 590, 10, 10, 800, 600)


def test_corners_that_are_no_numbers_are_named(tmp_path):
    rows = [f"images/{number}.png,p{number},{'12px' if number == 3 else 1},2,3,4,{number % 2}" for number in range(12)]
    with pytest.raises(DataError, match="row 5: xmin is '12px'"):
        prepared(tmp_path, "path,patient,xmin,ymin,xmax,ymax,Mass", *rows)
