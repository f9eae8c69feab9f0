"""FROC: against the challenge's definition written out as loops, by hand, and on bad input."""

import numpy as np
import pytest
from clinvit.core.errors import DataError
from clinvit.eval.localisation.froc import (
    RATES,
    Lesions,
    SlideHits,
    _Sweep,
    froc,
    hits,
    lesions,
    major_axes,
    read_detections,
    write_detections,
)
from clinvit.eval.statistics.intervals import PatientBootstrap
from hypothesis import given, settings
from hypothesis import strategies as st

MPP, DOWN = 0.243 * 32, 32


def literal_mask(mask, mpp):
    """Growing, filling and labelling written out: distances to every tumour pixel, flood fills."""
    height, width = mask.shape
    tumour = np.argwhere(mask)
    grown = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            if len(tumour):
                grown[y, x] = np.sqrt(((tumour - (y, x)) ** 2).sum(axis=1)).min() < 75 / (mpp * 2)

    def flood(seeds, allowed, steps):
        todo, seen = list(seeds), set(seeds)
        while todo:
            y, x = todo.pop()
            for dy, dx in steps:
                at = (y + dy, x + dx)
                if 0 <= at[0] < height and 0 <= at[1] < width and allowed[at] and at not in seen:
                    seen.add(at)
                    todo.append(at)
        return seen

    four = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    rim = [(y, x) for y in range(height) for x in range(width) if y in (0, height - 1) or x in (0, width - 1)]
    outside = flood([at for at in rim if not grown[at]], ~grown, four)
    filled = np.ones_like(mask)
    for at in outside:
        filled[at] = False
    labels, count = np.zeros(mask.shape, int), 0
    for y in range(height):
        for x in range(width):
            if filled[y, x] and not labels[y, x]:
                count += 1
                for at in flood([(y, x)], filled, [*four, (1, 1), (1, -1), (-1, 1), (-1, -1)]):
                    labels[at] = count
    return labels


def literal_froc(slides):
    """Six sensitivities from [(detections, labels or None, isolated labels, downsample)], loop by loop."""
    all_false, all_true, tumours = [], [], 0
    for detections, labels, isolated, downsample in slides:
        regions = 0 if labels is None else labels.max()
        true = [0.0] * regions
        for p, x, y in detections:
            label = 0 if labels is None else labels[int(y / downsample), int(x / downsample)]
            if label == 0:
                all_false.append(p)
            elif label not in isolated:
                true[label - 1] = max(true[label - 1], p)
        all_true += true
        tumours += regions - len(isolated)
    points = []
    for threshold in sorted(set(all_false + all_true))[1:]:
        points.append(
            (
                sum(p >= threshold for p in all_false) / len(slides),
                sum(p >= threshold for p in all_true) / tumours,
            )
        )
    points.append((0, 0))
    points = points[::-1]
    found = []
    for rate in RATES:
        below = [point for point in points if point[0] <= rate][-1]
        above = [point for point in points if point[0] > rate]
        if above:
            share = (rate - below[0]) / (above[0][0] - below[0])
            found.append(below[1] + share * (above[0][1] - below[1]))
        else:
            found.append(below[1])
    return found


@st.composite
def slide(draw):
    labels = None
    isolated = []
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 999)))
        labels = rng.integers(0, draw(st.integers(1, 5)), (6, 8))
        labels = np.unique(labels, return_inverse=True)[1].reshape(6, 8)  # 0 to n without gaps
        isolated = [i for i in range(1, labels.max() + 1) if draw(st.integers(0, 3)) == 0]
    rows = st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0]), st.integers(0, 255), st.integers(0, 191))
    return draw(st.lists(rows, max_size=25)), labels, isolated


@settings(max_examples=150, deadline=None)
@given(st.lists(slide(), min_size=1, max_size=6))
def test_equals_the_loops_of_the_definition(drawn):
    reduced, literal = [], []
    for i, (detections, labels, isolated) in enumerate(drawn):
        reference = None
        if labels is not None:
            flags = np.isin(np.arange(1, labels.max() + 1), isolated)
            reference = Lesions(labels, flags, DOWN)
        found = hits(np.array(detections, float).reshape(-1, 3), reference, (256, 192), f"s{i}")
        reduced.append(found)
        literal.append((detections, labels, isolated, DOWN))
    result = froc(reduced, resamples=5)
    if result.lesions == 0:
        assert np.isnan(result.score.value)
        assert result.score.reason
        return
    expected = literal_froc(literal)
    assert [e.value for e in result.sensitivities] == pytest.approx(expected, abs=1e-12)
    assert result.score.value == pytest.approx(np.mean(expected), abs=1e-12)
    assert (np.diff(result.fps_per_slide) >= 0).all()
    assert (np.diff(result.sensitivity) >= 0).all()
    assert (np.diff(result.thresholds[1:]) < 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.floats(0.9, 1.0))
def test_lesions_equal_growing_filling_and_labelling_by_hand(seed, empty):
    rng = np.random.default_rng(seed)
    mask = rng.random((24, 31)) > empty
    found = lesions(mask, MPP, DOWN)
    expected = literal_mask(mask, MPP)
    assert found.labels.max() == expected.max() == len(found.isolated)
    # The same parts, whatever their numbers.
    pairs = {(int(a), int(b)) for a, b in zip(found.labels.ravel(), expected.ravel())}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_major_axis_of_a_line_a_disc_and_a_tilted_bar():
    labels = np.zeros((200, 200), int)
    labels[10, 10:40] = 1
    yy, xx = np.mgrid[:200, :200]
    labels[(yy - 100) ** 2 + (xx - 60) ** 2 <= 30**2] = 2
    across, along = (xx - yy - 60) / np.sqrt(2), (xx + yy - 200) / np.sqrt(2)
    labels[(abs(across) <= 5) & (abs(along) <= 40)] = 3
    line, disc, bar = major_axes(labels)
    assert line == pytest.approx(4 * np.sqrt((30**2 - 1) / 12))
    assert disc == pytest.approx(60, rel=0.01)
    assert bar == pytest.approx(4 * np.sqrt(80**2 / 12), rel=0.02)


@pytest.mark.parametrize("side_um, isolated", [(100, True), (300, False)])
def test_small_regions_are_isolated_tumour_cells(side_um, isolated):
    mask = np.zeros((120, 120), bool)
    mask[40 : 40 + round(side_um / MPP), 40 : 40 + round(side_um / MPP)] = True
    found = lesions(mask, MPP, DOWN)
    assert found.isolated.tolist() == [isolated]
    inside = np.array([[0.9, 42 * DOWN, 42 * DOWN]])
    result = hits(inside, found, (120 * DOWN, 120 * DOWN), "s")
    assert len(result.false) == 0
    assert result.found.tolist() == ([] if isolated else [0.9])


def test_a_hand_made_curve():
    slides = [
        SlideHits("a", "a", np.array([0.8, 0.3]), np.array([0.9, 0.5, 0.0])),
        SlideHits("b", "b", np.array([0.6, 0.2]), np.zeros(0)),
    ]
    result = froc(slides, resamples=50)
    # 0 is the smallest (the lesion nobody hit), so 0.2 still counts.
    assert result.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.6, 0.5, 0.3, 0.2]
    assert result.fps_per_slide.tolist() == [0, 0, 0.5, 1, 1, 1.5, 2]
    assert (result.sensitivity * 3).tolist() == pytest.approx([0, 1, 1, 1, 2, 2, 2])
    assert [e.value * 3 for e in result.sensitivities] == pytest.approx([1, 1, 2, 2, 2, 2])
    assert (result.slides, result.lesions, result.isolated) == (2, 3, 0)


def test_nothing_detected_is_zero_and_nothing_to_detect_is_undefined():
    missed = froc([SlideHits("a", "a", np.zeros(0), np.zeros(4))], resamples=10)
    assert missed.score.value == 0
    empty = froc([SlideHits("a", "a", np.array([0.7]), np.zeros(0))], resamples=10)
    assert np.isnan(empty.score.value)
    assert "no lesion" in empty.score.reason
    assert np.isnan(froc([], resamples=10).score.value)


def test_interval_by_patient_covers_the_score_and_equals_the_curve_of_copied_slides():
    rng = np.random.default_rng(0)
    slides = [
        SlideHits(f"s{i}", f"p{i // 2}", rng.random(6) * 0.8, rng.random(i % 4) * (rng.random(i % 4) > 0.3), i % 2)
        for i in range(40)
    ]
    result = froc(slides, resamples=300)
    assert result.score.low < result.score.value < result.score.high
    # A resample is what the curve says of slides that are really there twice.
    bootstrap = PatientBootstrap([s.patient for s in slides], 7, 3)
    draws = _Sweep(slides, bootstrap).draws()
    counts = np.concatenate(list(bootstrap.counts()), axis=1)[bootstrap.index]
    for draw, times in zip(draws, counts.T):
        copies = [
            SlideHits(f"{s.id}-{k}", s.patient, s.false, s.found, s.isolated)
            for s, n in zip(slides, times)
            for k in range(n)
        ]
        assert draw == pytest.approx([e.value for e in froc(copies, resamples=2).sensitivities], abs=1e-12)


@pytest.mark.parametrize(
    "row, words",
    [
        ((0.5, 256, 10), "outside of the slide"),
        ((0.5, -1, 10), "outside of the slide"),
        ((0.5, np.nan, 10), "outside of the slide"),
        ((1.5, 2, 10), "Give one in 0..1"),
        ((np.nan, 2, 10), "Give one in 0..1"),
    ],
)
def test_bad_detections_are_refused(row, words):
    with pytest.raises(DataError, match=words) as error:
        hits(np.array([(0.1, 1, 1), row]), None, (256, 192), "slide_7")
    assert str(error.value).startswith("slide_7: detection 2")


def test_last_pixels_of_a_slide_belong_to_the_last_of_the_mask():
    mask = np.ones((3, 4), bool)
    found = hits(np.array([[0.5, 140, 110]]), lesions(mask, 200, 32), (141, 111), "s")
    assert found.found.tolist() == [0.5]


def test_a_slide_twice_is_refused():
    one = SlideHits("a", "a", np.zeros(0), np.zeros(1))
    with pytest.raises(DataError, match="'a' comes twice"):
        froc([one, one], resamples=2)


def test_detection_files_come_back(tmp_path):
    rows = np.array([[0.123456, 100, 20000], [1, 0, 7]])
    write_detections(tmp_path / "t.csv", rows)
    assert (tmp_path / "t.csv").read_text() == "0.123456,100,20000\n1,0,7\n"
    assert (read_detections(tmp_path / "t.csv") == rows).all()
    write_detections(tmp_path / "none.csv", np.zeros((0, 3)))
    assert read_detections(tmp_path / "none.csv").shape == (0, 3)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("p,x,y\n0.5,1,2\n", [[0.5, 1, 2]]),
        ("p;x;y\n0,5;1;2\n", [[0.5, 1, 2]]),
        ("0.5\t1\t2\n", [[0.5, 1, 2]]),
        ("\ufeffp, x, y\r\n0.5, 1, 2\r\n", [[0.5, 1, 2]]),
        (" \n", []),
        ("x,y,probability\n1,2,0.5\n", [[0.5, 1, 2]]),
        ("p,x,y\n", []),
    ],
)
def test_a_header_is_accepted(tmp_path, text, expected):
    (tmp_path / "d.csv").write_text(text)
    assert read_detections(tmp_path / "d.csv").tolist() == expected


@pytest.mark.parametrize(
    "text, line", [("0.5,1\n", 1), ("0.5,1,2\n0.5,a,3\n", 2), ("a,b,c\n", 1), ("0.5,1,2\n0.5,1,2,3\n", None)]
)
def test_bad_detection_files_are_refused(tmp_path, text, line):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_detections(path)
    assert str(path) in str(error.value)
    assert line is None or f"line {line} " in str(error.value)
