"""Detections of drawn maps and their average precision: by hand, against scikit-learn, and intervals that cover."""

import numpy as np
import pytest
from clinvit.eval.localisation.detections import (
    PRECISION_PATIENTS,
    Detected,
    average_precision,
    detections,
    matched,
    precision_draws,
    precision_estimate,
)
from clinvit.eval.localisation.image_map import ImageMap
from clinvit.eval.statistics.resampling import PatientBootstrap
from sklearn.metrics import average_precision_score


def on_image(values) -> ImageMap:
    values = np.asarray(values, dtype=np.float64)
    return ImageMap(values, (0, 0, 10 * values.shape[1], 10 * values.shape[0]), 80, 80)


def test_each_hill_is_one_detection_with_the_box_around_its_upper_half():
    values = np.zeros((8, 8))
    values[1:4, 1:4] = 0.5
    values[2, 2] = 0.9
    values[1, 3] = 0.46  # no maximum: its neighbours are higher
    values[6, 6] = 0.3
    values[6, 0] = 0.04  # too little for a detection
    found = detections(on_image(values))
    np.testing.assert_allclose(found.scores, [0.9, 0.3])
    np.testing.assert_allclose(found.peaks, [[25, 25], [65, 65]])
    np.testing.assert_allclose(found.boxes, [[10, 10, 40, 40], [60, 60, 70, 70]])


def test_a_plateau_is_one_detection_and_nothing_drawn_is_none():
    values = np.zeros((8, 8))
    values[2:5, 2:7] = 1
    assert len(detections(on_image(values)).scores) == 1
    empty = detections(on_image(np.zeros((8, 8))))
    assert empty.scores.shape == (0,) and empty.boxes.shape == (0, 4) and empty.peaks.shape == (0, 2)
    assert len(detections(on_image(np.eye(8)), most=3).scores) <= 3


def test_a_part_of_the_truth_is_taken_once():
    truth = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    boxes = np.array([[0.0, 0, 10, 9], [0, 0, 10, 10], [22, 0, 30, 10], [50, 50, 60, 60]])
    assert matched(boxes, truth, 0.5).tolist() == [True, False, True, False]
    assert matched(boxes, truth, 0.95).tolist() == [False, True, False, False]
    assert not matched(boxes, np.zeros((0, 4)), 0.5).any()


def test_precision_by_hand():
    # Right, wrong, right of three findings: precision 1, 1/2, 2/3, made to fall: 1 at recall 1/3, 2/3 at 2/3.
    scores, right = np.array([0.9, 0.8, 0.7]), np.array([True, False, True])
    value = average_precision(scores, right, np.zeros(3, int), np.array([3.0]), np.ones((1, 1), int))[0]
    assert value == pytest.approx((1 + 2 / 3) / 3)
    # All tie: one point of the curve.
    tied = average_precision(np.ones(3), right, np.zeros(3, int), np.array([3.0]), np.ones((1, 1), int))[0]
    assert tied == pytest.approx(2 / 3 * 2 / 3)
    assert np.isnan(average_precision(scores, right, np.zeros(3, int), np.array([0.0]), np.ones((1, 1), int))[0])
    none = np.zeros(0)
    assert average_precision(none, none.astype(bool), none.astype(int), np.array([2.0]), np.ones((1, 1), int))[0] == 0


def test_a_resample_weighs_as_if_images_were_repeated():
    rng = np.random.default_rng(0)
    scores, right, patients = rng.random(40), rng.random(40) < 0.5, rng.integers(0, 8, 40)
    truths, counts = np.full(8, 6), rng.integers(0, 4, (8, 5))
    weighted = average_precision(scores, right, patients, truths, counts)
    for column, own in enumerate(counts.T):
        repeated = np.repeat(np.arange(40), own[patients])
        again = average_precision(
            scores[repeated], right[repeated], np.zeros(len(repeated), int), np.array([truths @ own]), np.ones((1, 1))
        )[0]
        assert weighted[column] == pytest.approx(again)
    # Without a fall of precision to mend, it is scikit-learn's, less what was never found.
    best = np.sort(scores)[::-1]
    flags = np.arange(40) < 15
    whole = average_precision(best, flags, np.zeros(40, int), np.array([20.0]), np.ones((1, 1), int))[0]
    assert whole == pytest.approx(average_precision_score(flags, best) * 15 / 20)


def invented(rng, images: int, quality: float) -> list[Detected]:
    """Half of the images have a finding, which is found more often and with higher scores the better the model is."""
    out = []
    for image in range(images):
        finding = int(rng.random() < 0.5)
        found = bool(finding and rng.random() < 0.5 + 0.4 * quality)
        scores = np.append(rng.beta(1.5, 3, rng.poisson(0.7)), rng.beta(2 + 3 * quality, 2, int(found)))
        right = np.append(np.zeros(len(scores) - found, bool), np.ones(int(found), bool))
        order = np.argsort(-scores)
        out.append(Detected(f"p{image}", scores[order], right[order], finding))
    return out


def covered(images: int, quality: float, rounds: int, resamples: int) -> float:
    """Return how often the interval holds what so many more images give."""
    many = invented(np.random.default_rng(99), 40_000, quality)
    truth, _ = precision_draws(many, PatientBootstrap([each.patient for each in many], 10, 0))
    inside = []
    for number in range(rounds):
        some = invented(np.random.default_rng((number, images)), images, quality)
        bootstrap = PatientBootstrap([each.patient for each in some], resamples, number)
        value, draws = precision_draws(some, bootstrap)
        found = precision_estimate([value], draws[:, None], sum(each.truths for each in some))
        if found.method:
            inside.append(found.low <= truth <= found.high)
    assert len(inside) > rounds / 2
    return float(np.mean(inside))


def test_intervals_of_average_precision_cover():
    assert covered(80, 0.7, 60, 200) > 0.85


@pytest.mark.thorough
@pytest.mark.parametrize("images", [66, 120, 400])
@pytest.mark.parametrize("quality", [0.0, 0.5, 1.0])
def test_intervals_of_average_precision_cover_95_percent(images, quality):
    assert (
        covered(images, quality, 600, 500) > 0.915
    )  # 0.94 less two standard errors, and what a mean over rounds lacks


def test_few_patients_have_no_interval():
    found = precision_estimate([0.5, 0.7], np.random.default_rng(0).random((50, 2)), PRECISION_PATIENTS - 1)
    assert found.value == pytest.approx(0.6) and np.isnan(found.low) and "fewer than 30" in found.reason
