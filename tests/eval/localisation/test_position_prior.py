"""The usual place of boxes: made of other patients only, and no worse than it is for having left one out."""

import numpy as np
import pytest
from clinvit.eval.evaluation import Evaluation
from clinvit.eval.localisation.boxes import BoxedFinding, box_metrics
from clinvit.eval.localisation.image_map import ImageMap
from clinvit.eval.localisation.position_prior import GRID, PositionPriors

LEFT, RIGHT, TOP = (10, 40, 40, 80), (60, 40, 90, 80), (10, 5, 90, 20)


def finding(place, edges, label="Mass", patient=None, side=100) -> BoxedFinding:
    flat = ImageMap(np.ones((4, 4)), (0, 0, side, side), side, side)
    return BoxedFinding(f"c{place}", patient or f"p{place}", label, flat, np.array([edges], dtype=np.float64))


def position_priors(findings):
    """Return the prior of each finding, in their order."""
    found = {row: prior for rows, prior in PositionPriors(findings).maps() for row in rows}
    return [found[row] for row in range(len(findings))]


def value(found, x, y):
    return found[int(y / 100 * GRID), int(x / 100 * GRID)]


def test_the_own_patient_is_left_out_with_all_its_images():
    own = [finding(0, LEFT, patient="p"), finding(1, LEFT, patient="p"), *(finding(i, RIGHT) for i in range(2, 6))]
    first, *_, last = position_priors(own)
    assert value(first.cover, 25, 60) == 0 and value(first.cover, 75, 60) == pytest.approx(1)
    # Three others of the right and one patient, though of two images, of the left.
    assert value(last.cover, 25, 60) == pytest.approx(1 / 4) and value(last.cover, 75, 60) == pytest.approx(3 / 4)


def test_boxes_of_the_same_finding_count_where_ten_others_have_it():
    for masses, expected in ((11, 0), (10, 12 / 21)):
        own = [finding(i, LEFT) for i in range(masses)] + [finding(20 + i, TOP, "Edema") for i in range(12)]
        assert value(position_priors(own)[0].cover, 50, 12) == pytest.approx(expected)


def test_positions_are_shares_of_the_sides():
    own = [finding(i, LEFT) for i in range(12)] + [finding(20, tuple(4 * edge for edge in LEFT), side=400)]
    cover = position_priors(own)[-1].cover
    assert value(cover, 25, 60) == pytest.approx(1) and value(cover, 75, 60) == 0


def test_a_patient_alone_has_a_prior_that_prefers_no_place():
    (prior,) = position_priors([finding(0, LEFT)])
    assert (prior.cover == 1).all() and (prior.peak == 1).all()


@pytest.mark.parametrize("sides", [(LEFT, RIGHT), (LEFT, LEFT, RIGHT)])
def test_leaving_a_patient_out_does_not_turn_the_prior_against_it(sides):
    """Half left, half right: whoever is left out, the other side is then the more frequent, and the wrong one."""
    own = [finding(i, sides[i % len(sides)]) for i in range(12 * len(sides))]
    found = box_metrics(own, ("Mass",), Evaluation(resamples=20))
    assert found.baseline["prior"]["pointing_game"][-1] == pytest.approx(sides.count(LEFT) / len(sides), abs=0.02)
