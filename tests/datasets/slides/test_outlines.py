import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.datasets.slides.outlines import Outline, rasterise, read_outlines, tumour_fraction, write_outlines
from hypothesis import given, settings
from hypothesis import strategies as st


def square(x, y, side, excluded=False, group=None):
    corners = np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], float)
    return Outline(corners, group or ("_2" if excluded else "_0"), "a square", excluded)


def within(points, x, y):
    """Is (x, y) inside, by counting the edges to the left: the textbook rule, a pixel at a time."""
    inside = False
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0)):
        if (y1 > y) != (y2 > y) and x > x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            inside = not inside
    return inside


def by_hand(outlines, width, height, downsample):
    mask = np.zeros((-(-height // downsample), -(-width // downsample)), bool)
    for row, column in np.ndindex(mask.shape):
        x, y = (column + 0.5) * downsample, (row + 0.5) * downsample
        tumour = any(within(o.points, x, y) for o in outlines if not o.excluded)
        mask[row, column] = tumour and not any(within(o.points, x, y) for o in outlines if o.excluded)
    return mask


def xml(*marks, root="ASAP_Annotations", group="_0"):
    drawn = "".join(
        f'<Annotation Name="a" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58"><Coordinates>{points}</Coordinates>'
        "</Annotation>"
        for points in marks
    )
    return f'<?xml version="1.0"?>\n<{root}><Annotations>{drawn}</Annotations><AnnotationGroups/></{root}>'


def point(order, x, y):
    return f'<Coordinate Order="{order}" X="{x}" Y="{y}" />'


TRIANGLE = point(2, 30, 40) + point(0, 10, 20) + point(1, 30, 20)


def test_what_is_written_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    drawn = [Outline(rng.uniform(0, 9e4, (40, 2)), g, f"n {g} <&>", g == "_2") for g in ("_0", "_1", "Tumor", "_2")]
    write_outlines(tmp_path / "a.xml", drawn)
    for old, new in zip(drawn, read_outlines(tmp_path / "a.xml"), strict=True):
        assert (new.group, new.name, new.excluded) == (old.group, old.name, old.excluded)
        np.testing.assert_allclose(new.points, old.points, atol=6e-4)


def test_vertices_come_in_their_order(tmp_path):
    (tmp_path / "a.xml").write_text(xml(TRIANGLE))
    (found,) = read_outlines(tmp_path / "a.xml")
    assert found.points.tolist() == [[10, 20], [30, 20], [30, 40]] and not found.excluded


def test_no_outline_is_no_error_and_dots_are_none(tmp_path):
    (tmp_path / "a.xml").write_text(xml(point(0, 1, 1)).replace("Polygon", "Dot"))
    assert read_outlines(tmp_path / "a.xml") == []


@pytest.mark.parametrize(
    "group, excluded", [("_0", False), ("_1", False), ("Tumor", False), ("tumor", False), ("metastases", False),
                        ("_2", True), ("normal", True)],
)  # fmt: skip
def test_groups(tmp_path, group, excluded):
    (tmp_path / "a.xml").write_text(xml(TRIANGLE, group=group))
    assert read_outlines(tmp_path / "a.xml")[0].excluded == excluded


BOMB = '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY c "cc">]><ASAP_Annotations>&c;</ASAP_Annotations>'


@pytest.mark.parametrize(
    "text, message",
    [
        (BOMB.encode(), "document type or entities"),
        (BOMB.replace("1.0", '1.0" encoding="utf-16').encode("utf-16"), "document type or entities"),
        (b"", "no readable XML"),
        (xml(TRIANGLE)[:-30].encode(), "no readable XML"),
        (xml(TRIANGLE, root="Annotations").encode(), "not an annotation file of ASAP"),
        (xml("").encode(), "0 points"),
        (xml(point(0, 1, 2) + point(1, 3, 4)).encode(), "2 points"),
        (xml(TRIANGLE + point(3, "nan", 2)).encode(), "not finite"),
        (xml(TRIANGLE + point(3, "inf", 2)).encode(), "not finite"),
        (xml(TRIANGLE + point(3, "1,5", 2)).encode(), "no number"),
        (xml(TRIANGLE + '<Coordinate Order="3" X="1" />').encode(), "no number"),
        (xml(TRIANGLE, group="Necrosis").encode(), "group 'Necrosis'"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path, text, message):
    (tmp_path / "a.xml").write_bytes(text)
    with pytest.raises(DataError, match=message) as caught:
        read_outlines(tmp_path / "a.xml")
    assert str(tmp_path / "a.xml") in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_outlines(tmp_path / "none.xml")


def test_a_hole_is_cut_out_whatever_the_order():
    for outlines in ([square(0, 0, 80), square(20, 20, 40, True)], [square(20, 20, 40, True), square(0, 0, 80)]):
        mask = rasterise(outlines, 100, 60, 1)
        assert mask.shape == (60, 100) and mask.sum() == 80 * 60 - 40 * 40 and not mask[20:60, 20:60].any()


def test_outlines_beyond_the_slide_are_cut_off():
    assert rasterise([square(-50, -50, 500)], 100, 60, 7).all()
    assert not rasterise([square(200, 0, 50), square(0, -80, 50), square(-90, 0, 50)], 100, 60, 7).any()
    assert rasterise([], 101, 60, 4).shape == (15, 26)


POLYGON = st.lists(st.tuples(st.integers(-200, 1400), st.integers(-200, 1100)), min_size=3, max_size=9)


@settings(max_examples=60, deadline=None)
@given(polygons=st.lists(st.tuples(POLYGON, st.booleans()), max_size=4), downsample=st.sampled_from([8, 13]))
def test_the_mask_is_the_one_counted_by_hand(polygons, downsample):
    # A shift by an odd fraction keeps pixel centres off the outlines, where either answer would be right.
    outlines = [Outline(np.array(p) + np.array([0.137, 0.219]), "_0", "", excluded) for p, excluded in polygons]
    width, height = 300, 200
    np.testing.assert_array_equal(
        rasterise(outlines, width, height, downsample), by_hand(outlines, width, height, downsample)
    )


@settings(max_examples=40, deadline=None)
@given(polygons=st.lists(st.tuples(POLYGON, st.booleans()), max_size=3), seed=st.integers(0, 99))
def test_fractions_agree_with_a_mask_at_full_size(polygons, seed):
    outlines = [Outline(np.array(p, float), "_0", "", excluded) for p, excluded in polygons]
    coords = np.random.default_rng(seed).integers(0, 900, (30, 2))
    mask = rasterise(outlines, 1200, 1200, 1)
    exact = [mask[y : y + 96, x : x + 96].mean() for x, y in coords]
    np.testing.assert_allclose(tumour_fraction(coords, 96, outlines), exact, atol=0.06)


def test_fractions_of_squares():
    outlines = [square(100, 100, 200), square(200, 200, 100, True)]
    coords = np.array([[100, 100], [50, 100], [200, 200], [150, 150], [5000, 5000], [0, 0]])
    found = tumour_fraction(coords, 100, outlines)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1, 0.5, 0, 0.75, 0, 0], atol=0.02)


def test_fractions_without_tiles_or_tumour():
    assert tumour_fraction(np.zeros((0, 2)), 224, [square(0, 0, 100)]).shape == (0,)
    assert tumour_fraction(np.zeros((3, 2)), 224, []).tolist() == [0, 0, 0]
    assert tumour_fraction(np.zeros((3, 2)), 224, [square(0, 0, 100, True)]).tolist() == [0, 0, 0]


def test_a_line_has_no_area():
    line = Outline(np.array([[0, 50], [900, 50], [400, 50]], float), "_0", "", False)
    assert tumour_fraction(np.array([[0, 0]]), 224, [line]).tolist() == [0]


def test_a_tumour_as_large_as_a_real_slide_keeps_within_its_memory():
    import tracemalloc

    angle = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    disc = Outline(
        np.stack([50_000 + 49_000 * np.cos(angle), 40_000 + 39_000 * np.sin(angle)], axis=1), "_0", "", False
    )
    x, y = np.meshgrid(np.arange(0, 100_000, 448), np.arange(0, 80_000, 448))
    tracemalloc.start()
    share = tumour_fraction(np.stack([x, y], axis=-1).reshape(-1, 2), 448, [disc])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert share.sum() * 448**2 == pytest.approx(np.pi * 49_000 * 39_000, rel=2e-3)
    assert peak < 256 * 2**20
