"""Outlines of ASAP and QuPath, told apart by content; of GeoJSON the outlines of the label alone."""

import json

import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.slides.annotations import read_annotation
from clinvit.datasets.slides.outlines import Outline, rasterise, write_outlines


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def feature(rings, group=None, kind="Polygon", **facts) -> dict:
    facts = {"objectType": "annotation"} | ({"classification": {"name": group, "color": [200, 0, 0]}} if group else {})
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": rings}, "properties": facts}


def save(path, found):
    path.write_text(json.dumps(found), encoding="utf-8-sig" if "bom" in path.name else "utf-8")
    return path


TUMOUR = feature([square(0, 0, 40)], "Tumor")
STROMA = feature([square(50, 50, 20)], "Stroma")


@pytest.mark.parametrize(
    "wrapped", [lambda each: {"type": "FeatureCollection", "features": each}, lambda each: each], ids=["set", "list"]
)
@pytest.mark.parametrize("name", ["a.geojson", "a.json", "a.xml", "bom.geojson"])
def test_geojson_of_qupath_is_read_whatever_it_is_called(tmp_path, wrapped, name):
    (found,) = read_annotation(save(tmp_path / name, wrapped([TUMOUR, STROMA])), "tumor")
    np.testing.assert_array_equal(found.points, np.array(square(0, 0, 40)[:-1]))
    assert (found.group, found.excluded, found.holes) == ("Tumor", False, ())


def test_asap_is_read_as_before(tmp_path):
    outline = Outline(np.array(square(0, 0, 40)[:-1]), "_0", "a", False)
    write_outlines(tmp_path / "a.geojson", [outline])
    (found,) = read_annotation(tmp_path / "a.geojson", "msi")
    np.testing.assert_array_equal(found.points, outline.points)


def test_the_label_names_its_class(tmp_path):
    msi = feature([square(100, 0, 10)], "MSI")
    path = save(tmp_path / "a.geojson", [TUMOUR, STROMA, msi])
    assert [each.group for each in read_annotation(path, "msi")] == ["MSI"]
    assert [each.group for each in read_annotation(path, "her2")] == ["Tumor"]
    with pytest.raises(DataError, match=r"no outline is of the class 'msi'; there are 'Necrosis', 'Stroma'"):
        read_annotation(save(path, [STROMA, feature([square(0, 0, 9)], "Necrosis")]), "msi")


def test_outlines_without_any_class_are_the_label_s(tmp_path):
    plain = feature([square(0, 0, 40)])
    assert len(read_annotation(save(tmp_path / "a.json", [plain, plain]), "msi")) == 2
    # Beside named ones they are of nothing that is known.
    assert [each.group for each in read_annotation(save(tmp_path / "a.json", [plain, TUMOUR]), "msi")] == ["Tumor"]


@pytest.mark.parametrize(
    "facts",
    [
        {"classification": {"name": "Tumor", "colorRGB": -3670016}},
        {"classification": {"names": ["Tumor", "Positive"]}},
        {"classification": "Tumor: Positive"},
        {"classification": {"name": "TUMOUR"}},
        {"class": "tumor"},
        {"object_type": "annotation", "label": "Tumor"},
    ],
)
def test_classes_as_versions_of_qupath_and_others_write_them(tmp_path, facts):
    other = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square(0, 0, 9)]}, "properties": facts}
    assert len(read_annotation(save(tmp_path / "a.json", [other, STROMA]), "tumor")) == 1


def test_holes_are_cut_out_of_their_own_outline_alone(tmp_path):
    ring = feature([square(0, 0, 40), square(10, 10, 20)], "Tumor")
    island = feature([square(15, 15, 10)], "Tumor")
    found = read_annotation(save(tmp_path / "a.json", [ring, island]), "tumor")
    mask = rasterise(found, 50, 50, 1)
    expected = np.zeros((50, 50), bool)
    expected[:40, :40], expected[10:30, 10:30], expected[15:25, 15:25] = True, False, True
    np.testing.assert_array_equal(mask, expected)


def test_several_parts_ignored_tissue_and_marks_without_area(tmp_path):
    parts = feature([[square(0, 0, 20)], [square(30, 0, 20)]], "Tumor", "MultiPolygon")
    ignored = feature([square(0, 0, 5)], "Ignore*")
    point = feature([3, 3], "Tumor", "Point")
    line = feature([[0, 0], [9, 9]], "Tumor", "LineString")
    cell = feature([square(40, 40, 5)], "Tumor")
    cell["properties"]["objectType"] = "cell"
    both = {"type": "GeometryCollection", "geometries": [point["geometry"], TUMOUR["geometry"]]}
    both = {"type": "Feature", "properties": {"classification": {"name": "Tumor"}}, "geometry": both}
    found = read_annotation(save(tmp_path / "a.json", [parts, ignored, point, line, cell, both]), "tumor")
    assert [each.excluded for each in found] == [False, False, True, False]
    assert not rasterise(found, 60, 60, 1)[:5, :5].any() and rasterise(found, 60, 60, 1)[10, 45]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"type": "FeatureCollection", "features": 3}', "no GeoJSON as QuPath writes it"),
        ('{"features": [3]}', "no GeoJSON as QuPath writes it"),
        ("[]", "no outline of an area"),
        ('{"features": [', "no readable GeoJSON"),
        ("[" * 5000, "no readable GeoJSON"),
        (json.dumps([feature([[[0, 0], [1, 1], [0, 0]]], "Tumor")]), "2 points"),
        (json.dumps([feature([[[0, "a"], [1, 1], [2, 0]]], "Tumor")]), "no number"),
        (json.dumps([feature([[[0, 0], [1], [2, 0]]], "Tumor")]), "no number"),
        (json.dumps([feature([[[0, 0], [1e999, 1], [2, 0]]], "Tumor")]), "not finite"),
        (json.dumps([feature([], "Tumor", "Circle")]), "geometry 'Circle'"),
        (json.dumps([feature(7, "Tumor")]), "no number"),
    ],
)
def test_what_is_no_outline_is_named(tmp_path, content, words):
    (tmp_path / "a.geojson").write_text(content)
    with pytest.raises(DataError, match=rf"a\.geojson: .*{words}"):
        read_annotation(tmp_path / "a.geojson", "tumor")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"b\.geojson: no such file"):
        read_annotation(tmp_path / "b.geojson", "tumor")
