"""Maps against boxes: metrics that can be worked out by hand, chance, intervals, the section of the report."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Context, Evaluation, evaluate
from clinvit.eval.localisation.boxes import BoxedFinding, box_metrics, measures
from clinvit.eval.localisation.image_map import ImageMap
from clinvit.eval.localisation.overlay import image_png, over_image, with_boxes
from clinvit.eval.report.boxes_section import boxes_section
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


def one_hot(row, column, size=8, **changes) -> ImageMap:
    values = np.zeros((size, size))
    values[row, column] = 1
    return ImageMap(**({"values": values, "extent_px": (0, 0, 800, 800), "width_px": 800, "height_px": 800} | changes))


def box(*edges) -> np.ndarray:
    return np.array([edges], dtype=np.float64)


def test_the_maximum_is_in_the_box_or_not():
    found = one_hot(2, 5)  # its middle is at x 550, y 250
    assert measures(found, box(540, 240, 560, 260))[0] == 1
    assert measures(found, box(560, 240, 700, 260))[0] == 0
    assert measures(found, np.vstack([box(0, 0, 10, 10), box(500, 200, 600, 300)]))[0] == 1, "any of several boxes"
    # 10 px beside the box are 2.8 px of an image of 224.
    assert measures(found, box(560, 240, 700, 260), tolerance_px=2)[0] == 0
    assert measures(found, box(560, 240, 700, 260), tolerance_px=3)[0] == 1


def test_maxima_that_tie_count_by_their_share():
    found = ImageMap(np.array([[1.0, 0], [1, 1]]), (0, 0, 100, 100), 100, 100)
    assert measures(found, box(0, 0, 50, 100))[0] == pytest.approx(2 / 3)


def test_a_map_of_a_part_lies_where_that_part_is():
    seen = {"extent_px": (400, 200, 800, 600), "width_px": 1000, "height_px": 700}
    found = one_hot(0, 0, 4, **seen)
    assert found.peaks().tolist() == [[450, 250]]
    sampled = found.sampled(100, 70)
    assert np.isnan(sampled[:20]).all() and np.isnan(sampled[:, :40]).all() and np.isnan(sampled[60:]).all()
    assert np.isnan(sampled).mean() == pytest.approx(1 - 40 * 40 / 7000)
    assert sampled[24:26, 44:46] == pytest.approx(1, abs=0.12) and sampled[59, 79] == 0
    assert measures(found, box(400, 200, 500, 300))[0] == 1
    padded = ImageMap(np.ones((2, 2)), (-50, 0, 150, 200), 100, 200)
    assert not np.isnan(padded.sampled(10, 20)).any()


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 500), st.floats(0, 500), st.floats(30, 300), st.floats(30, 300))
def test_a_uniform_map_gets_the_share_of_the_area(x, y, width, height):
    found = one_hot(0, 0, 14).uniform()
    area = width * height / 800**2
    _, energy, iou = measures(found, box(x, y, x + width, y + height))
    assert energy == pytest.approx(area, rel=1e-9) and iou == pytest.approx(area, rel=1e-9)


def test_the_region_is_connected_and_half_as_high():
    values = np.zeros((16, 16))
    values[4:8, 4:8] = 1
    values[12:15, 12:15] = 0.9  # as bright, but not connected
    found = ImageMap(values, (0, 0, 160, 160), 160, 160)
    # Linear between the cells' middles, half of the height is reached half a cell beyond the last high middle.
    assert measures(found, box(40, 40, 80, 80))[2] == pytest.approx(1, abs=0.04)
    assert measures(found, box(120, 120, 150, 150))[2] == 0
    assert measures(found, box(40, 40, 80, 160))[2] == pytest.approx(1 / 3, abs=0.02)
    several = np.vstack([box(40, 40, 80, 160), box(40, 40, 80, 80)])
    assert measures(found, several)[2] == pytest.approx(1, abs=0.04), "the box that it overlaps most"


def test_an_empty_map_misses_and_boxes_that_overlap_count_once():
    assert measures(one_hot(0, 0) and ImageMap(np.zeros((4, 4)), (0, 0, 9, 9), 9, 9), box(0, 0, 9, 9)) == (0, 0, 0)
    twice = np.vstack([box(0, 0, 400, 800), box(0, 0, 400, 800)])
    assert measures(one_hot(0, 0).uniform(), twice)[1] == pytest.approx(0.5)


def test_the_central_map_points_at_the_middle():
    for size, peaks in ((7, 1), (8, 4)):
        central = one_hot(0, 0, size).central()
        assert len(central.peaks()) == peaks
        np.testing.assert_allclose(central.peaks().mean(axis=0), (400, 400))


def findings(count, chance, seed=0, labels=("Mass", "Nodule", "Hernia")):
    """Boxes of 2 x 2 of 8 x 8 cells; the map points into them in a share `chance` of the findings, else anywhere."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        row, column = rng.integers(0, 7, 2)
        at = (row, column) if rng.random() < chance else rng.integers(0, 8, 2)
        edges = box(100 * column, 100 * row, 100 * column + 200, 100 * row + 200)
        found.append(BoxedFinding(f"c{i}", f"p{i // 2}", labels[i % 2], one_hot(*at), edges))
    return found


def test_metrics_by_label_and_over_all():
    own = findings(200, 0.5)
    found = box_metrics(own, ("Hernia", "Nodule", "Mass"), Evaluation(resamples=400), method="gradient", without_map=3)
    assert (
        found.labels == ("Nodule", "Mass") and found.findings == [100, 100, 200] and found.patients == [100, 100, 100]
    )
    direct = np.array([measures(each.map, each.boxes) for each in own])
    nodules = np.array([each.label == "Nodule" for each in own])
    for place, name in enumerate(("pointing_game", "energy", "iou")):
        values = [estimate.value for estimate in found.metrics[name]]
        parts = (direct[nodules, place], direct[~nodules, place], direct[:, place])
        np.testing.assert_allclose(values, [part.mean() for part in parts])
        assert all(e.low < e.value < e.high for e in found.metrics[name])
    shares = [found.metrics[f"iou_at_{least:g}"][2].value for least in (0.1, 0.3, 0.5, 0.7)]
    np.testing.assert_allclose(shares, [(direct[:, 2] >= least).mean() for least in (0.1, 0.3, 0.5, 0.7)])
    assert found.baseline["uniform"]["pointing_game"][2] == pytest.approx(4 / 64)
    assert found.gain["uniform"]["pointing_game"][2].low > 0
    assert (found.method, found.without_map, found.empty) == ("gradient", 3, 0)


@pytest.mark.thorough
def test_maps_at_random_are_not_called_better_than_chance():
    better = sum(
        box_metrics(findings(120, 0, seed), ("Mass", "Nodule"), Evaluation(resamples=200))
        .gain["uniform"]["pointing_game"][-1]
        .low
        > 0
        for seed in range(24)
    )
    assert better <= 3, "about 2.5 % of 24 are expected"


def test_nothing_hit_has_an_interval_that_is_wide_enough():
    far = [
        BoxedFinding(each.id, each.id, each.label, one_hot(0, 0), box(700, 700, 790, 790)) for each in findings(20, 0)
    ]
    pointing = box_metrics(far, ("Mass", "Nodule"), Evaluation(resamples=100)).metrics["pointing_game"][-1]
    assert pointing.value == 0 and 0.1 < pointing.high < 0.3


def image(case):
    return None if case == "c0" else np.linspace(0, 1, 64 * 64).reshape(64, 64)


def section(models=("one",), image=image):
    found = {name: box_metrics(findings(60, 0.3 * i), ("Mass", "Nodule"), Evaluation(resamples=100), method=method)
             for i, (name, method) in enumerate(zip(models, ("gradient", "attention")))}  # fmt: skip
    return boxes_section(found, {name: i for i, name in enumerate(models)}, findings(60, 0), image)


@pytest.fixture
def tables(tmp_path):
    rng = np.random.default_rng(0)
    cases = pd.DataFrame({"id": [f"c{i}" for i in range(60)], "patient": [f"p{i}" for i in range(60)], "split": "test"})
    truth = rng.integers(0, 2, (60, 2)).astype(float)

    def read(name):
        table = predictions_table(cases, ("Mass", "Nodule"), truth, rng.random((60, 2)), [""] * 60)
        write_predictions(tmp_path / f"{name}.csv", table)
        return read_predictions(tmp_path / f"{name}.csv")

    return read


@pytest.mark.parametrize("models", [("one",), ("one", "<b>&")])
def test_the_section_is_on_the_page_in_the_json_and_in_the_csv(tmp_path, tables, models):
    own = section(models)
    context = Context(sections=lambda _: [own])
    metrics = evaluate(
        {name: tables(str(i)) for i, name in enumerate(models)}, tmp_path / "r", context=context
    ).to_dict()
    page = (tmp_path / "r" / "report.html").read_text()
    part = page[page.index('<section aria-labelledby="boxes">') :]
    part = part[: part.index("</section>")]
    assert "<b>&" not in page and 'href="#boxes"' in page and "Chefer" in page
    assert len(re.findall(r"<img ", part)) == len(re.findall(r'<img src="data:image/jpeg[^>]*alt="[^"]+"', part)) == 2
    assert 'role="img"' in part and "Pointing game by finding" in part
    assert metrics["boxes"] == json.loads((tmp_path / "r" / "report.json").read_text())["boxes"]
    label = metrics["boxes"]["one"]["labels"][-1]
    assert label["findings"] == 60 and set(label["baselines"]) == {"uniform", "centre", "prior"}
    csv = pd.read_csv(tmp_path / "r" / "metrics.csv", keep_default_na=False)
    row = csv[(csv["metric"] == "boxes_pointing_game") & (csv["model"] == "one") & (csv["label"] == "")]
    assert float(row["value"].iloc[0]) == pytest.approx(label["metrics"]["pointing_game"]["value"], abs=1e-5)
    assert "boxes_energy_of_a_centre_map" in set(csv["metric"]) and "boxes_iou_minus_uniform" in set(csv["metric"])


def test_no_image_is_no_example():
    assert section(image=None).content["examples"] == []
    assert section(image=lambda case: None).content["examples"] == []


def test_the_image_shows_through_where_the_map_is_low():
    grey = np.full((80, 80), 0.5)
    laid = over_image(grey, one_hot(1, 6))
    assert laid.shape == (80, 80, 3) and (laid[60, 10] == 128).all()
    hottest = np.unravel_index(laid.astype(int)[..., 0].argmax(), (80, 80))
    assert 10 <= hottest[0] < 20 and 60 <= hottest[1] < 70
    assert (over_image(grey, ImageMap(np.zeros((4, 4)), (0, 0, 80, 80), 80, 80)) == 128).all()
    drawn = with_boxes(laid, box(10, 40, 30, 70))
    assert (drawn != laid).any(axis=2)[40:71, 10].all() and (drawn[50, 20] == laid[50, 20]).all()


@pytest.mark.parametrize("size", [(40, 30), (600, 500)])
def test_an_overlay_holds_the_image_and_the_words_below(size):
    width, height = size
    found = ImageMap(np.eye(4), (0, 0, width, height), width, height)
    long = "a very long name " * 20
    page = Image.open(io.BytesIO(image_png(np.zeros((height, width)), found, case=long, label=long, score=0.5)))
    assert page.width >= width and page.height > height
    below = np.asarray(page)[height:]
    assert (below < 120).all(axis=2).any(), "there is ink"
    assert (below[:, -8:] > 200).all(), "nothing runs off the page"
