"""What is drawn against the truth: overlap, free-response detection, average precision, and the paired comparison."""

import numpy as np
import pytest
from clinvit.eval.evaluation import Evaluation
from clinvit.eval.localisation.boxes import BoxedFinding, box_metrics
from clinvit.eval.localisation.dense import DrawnImage, against_maps, dense_metrics, overlap
from clinvit.eval.localisation.image_map import ImageMap
from clinvit.eval.report.dense_section import Against, dense_section, verdict

SIDE = 224


def image(number, drawn, truth=None, label="Mass", threshold=0.5, patient="") -> DrawnImage:
    """Return an image of 224 px whose map of 28 x 28 cells has squares (left, top, size in cells, probability)."""
    values = np.zeros((28, 28))
    for left, top, size, share in drawn:
        values[top : top + size, left : left + size] = share
    grid = ImageMap(values, (0, 0, SIDE, SIDE), SIDE, SIDE)
    parts, boxes = np.zeros((0, SIDE, SIDE), bool), np.zeros((0, 4))
    if truth is not None:
        left, top, size = (8 * each for each in truth)
        parts = np.zeros((1, SIDE, SIDE), bool)
        parts[0, top : top + size, left : left + size] = True
        boxes = np.array([[left, top, left + size, top + size]], dtype=np.float64)
    return DrawnImage(f"c{number}", patient or f"p{number}", label, grid, threshold, parts, boxes)


def test_overlap_by_hand():
    assert overlap(image(0, [(4, 4, 8, 0.9)], (4, 4, 8))) == pytest.approx((1, 1), abs=0.06)  # corners are rounded
    iou, dice = overlap(image(0, [(4, 4, 8, 0.9)], (8, 4, 8)))
    assert (iou, dice) == pytest.approx((1 / 3, 1 / 2), abs=0.02)
    assert overlap(image(0, [(4, 4, 8, 0.4)], (4, 4, 8))) == (0, 0), "below the threshold nothing is drawn"


@pytest.fixture
def cases():
    """Forty found, ten missed, forty without a finding of which eight have a false detection; another label, unseen."""
    found = [image(i, [(4, 4, 6, 0.9)], (4, 4, 6)) for i in range(40)]
    missed = [image(i, [(20, 20, 4, 0.7)], (4, 4, 6)) for i in range(40, 50)]
    healthy = [image(i, [(10, 10, 4, 0.8)] if i < 58 else []) for i in range(50, 90)]
    return [*found, *missed, *healthy, image(0, [], None, "Edema")]


def test_metrics_by_hand(cases):
    found = dense_metrics(cases, ("Mass", "Edema"), Evaluation(resamples=200), "masks")
    assert found.labels == ("Mass",) and found.findings == [50, 50] and found.images == [90, 90] and found.empty == 10
    assert found.overlap["dice"][0].value == pytest.approx(0.8, abs=0.03)
    assert found.overlap["dice"][0].low < 0.8 < found.overlap["dice"][0].high
    curve = found.froc[0]
    assert curve.lesions == 50 and curve.sensitivities[-1].value == pytest.approx(0.8)
    assert found.precision[0.5][0].value == pytest.approx(0.8) and found.precision[0.3][1].value == pytest.approx(0.8)
    section = dense_section({"model": found}, {"model": []})
    names = [row.metric for row in section.metrics]
    assert {"dense_iou", "dense_dice", "dense_froc", "dense_ap_30", "dense_ap_50"} <= set(names)
    assert section.plain["model"]["labels"][0]["metrics"]["ap_50"]["value"] == pytest.approx(0.8)
    assert "masks that readers drew" in section.methods


def boxed(number, values, patient=None) -> BoxedFinding:
    grid = ImageMap(values, (0, 0, SIDE, SIDE), SIDE, SIDE)
    return BoxedFinding(f"c{number}", patient or f"p{number}", "Mass", grid, np.array([[32.0, 32, 80, 80]]))


def test_what_is_drawn_is_compared_finding_by_finding():
    right, wrong = np.zeros((28, 28)), np.zeros((28, 28))
    right[4:10, 4:10] = 1
    wrong[20:24, 20:24] = 1
    drawn = [boxed(i, right if i % 10 else wrong) for i in range(60)]
    maps = [boxed(i, wrong if i % 2 else right) for i in range(10, 60)][::-1]
    settings = Evaluation(resamples=200)
    own, theirs = (box_metrics(each, ("Mass",), settings).each for each in (drawn, maps))
    count, gains = against_maps(drawn, own, maps, theirs, settings)
    # Of c10 to c59: drawn right but for 5, maps right for the 25 even ones.
    assert count == 50 and gains["pointing_game"].value == pytest.approx((45 - 25) / 50)
    assert gains["pointing_game"].low > 0
    values = {"pointing_game": 0.5, "energy": 0.5, "iou": 0.5}
    words = verdict([Against("vit", "gradient", count, values, gains)])
    assert "paired over 50 findings: pointing game +0.40" in words and "against vit: better" in words
    assert verdict([]) == ""
    assert against_maps(drawn[:3], own[:3], maps[:3], theirs[:3], settings) == (0, {})
