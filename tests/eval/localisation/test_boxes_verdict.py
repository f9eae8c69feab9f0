"""Planted maps get the verdict that they deserve, and the sentence follows the intervals."""

from dataclasses import replace

import numpy as np
import pytest
from clinvit.eval.evaluation import Evaluation
from clinvit.eval.localisation import position_prior
from clinvit.eval.localisation.boxes import BoxedFinding, BoxMetrics, box_metrics
from clinvit.eval.localisation.image_map import ImageMap
from clinvit.eval.localisation.position_prior import PositionPriors
from clinvit.eval.report.boxes_section import boxes_section
from clinvit.eval.report.boxes_verdict import localises, verdict
from clinvit.eval.statistics.intervals import Estimate

DO_NOT = "Do not read these maps as showing where a finding is"


def at(row, column) -> ImageMap:
    values = np.zeros((8, 8))
    values[row, column] = 1
    return ImageMap(values, (0, 0, 800, 800), 800, 800)


def planted(kind, count=36, seed=0) -> list[BoxedFinding]:
    """Boxes of 2 x 2 of 8 x 8 cells in the left or the right lung, and maps that are right, at random, central ..."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        row, column = rng.integers(2, 6), rng.choice([0, 1, 5, 6])
        edges = np.array([[column, row, column + 2, row + 2]]) * 100.0
        own = BoxedFinding(f"c{i}", f"p{i}", "Mass", at(row, column), edges)
        maps = {
            "perfect": own.map, "random": at(*rng.integers(0, 8, 2)), "centre": own.map.central(),
            "mirrored": at(row, 7 - column), "half": own.map if rng.random() < 0.75 else at(*rng.integers(0, 8, 2)),
        }  # fmt: skip
        found.append(replace(own, map=maps[kind]))
    return found


def metrics(kind, count=36, seed=0, resamples=300) -> BoxMetrics:
    return box_metrics(planted(kind, count, seed), ("Mass",), Evaluation(resamples=resamples), method="gradient")


@pytest.mark.parametrize(
    "kind, count, expected",
    [("perfect", 36, True), ("half", 150, True), ("random", 36, False), ("random", 150, False), ("centre", 36, False)],
)
def test_planted_maps_get_the_verdict_that_they_deserve(kind, count, expected):
    found = metrics(kind, count)
    assert localises(found) is expected
    assert verdict(found).startswith("These maps point at" if expected else DO_NOT)


def test_a_map_that_is_the_usual_place_itself_is_no_better_than_it():
    own = planted("perfect")
    for rows, prior in PositionPriors(own).maps():
        for row in rows:
            own[row] = replace(own[row], map=ImageMap(prior.peak, (0, 0, 800, 800), 800, 800))
    found = box_metrics(own, ("Mass",), Evaluation(resamples=200), method="gradient")
    gain = found.gain["prior"]["pointing_game"][-1]
    assert gain.value == 0 and gain.low < 0 < gain.high
    assert localises(found) is False and "the usual place" in verdict(found).split(";")[0]


def test_maps_on_the_wrong_side_do_worse():
    found = metrics("mirrored")
    assert localises(found) is False and "they do worse than" in verdict(found)


def test_few_patients_get_no_verdict():
    found = metrics("perfect", count=9)
    assert localises(found) is None and "cannot be said (no interval: " in verdict(found)
    assert "9 patients only" in verdict(found)
    assert "nan" not in verdict(found) and "–" not in verdict(found)


@pytest.mark.parametrize("base", ["uniform", "centre", "prior"])
@pytest.mark.parametrize("low, high, expected", [(0.01, 0.4, True), (0.0, 0.4, False), (-0.1, 0.4, False)])
def test_the_sentence_follows_the_interval_of_each_baseline(base, low, high, expected):
    found = metrics("perfect")
    own = dict(found.gain[base], pointing_game=[Estimate(0.2, low, high)] * 2)
    found = replace(found, gain=found.gain | {base: own})
    assert localises(found) is expected
    words = verdict(found)
    assert words.startswith(DO_NOT) is not expected
    assert f"{'+' if low >= 0 else '−'}{abs(low):.2f} to +0.40" in words


@pytest.mark.parametrize("kind, count, expected", [("perfect", 36, True), ("random", 36, False), ("perfect", 9, None)])
def test_page_json_and_csv_hold_the_same_sentence(kind, count, expected):
    found = metrics(kind, count)
    section = boxes_section({"vit": found}, {"vit": 0}, planted(kind, count))
    words = verdict(found)
    assert section.content["verdicts"] == {"vit": words}
    assert section.plain["vit"]["localises"] is expected and section.plain["vit"]["verdict"] == words
    (row,) = (row for row in section.metrics if row.metric == "boxes_localises")
    assert row.estimate.reason == words and row.model == "vit"
    assert np.isnan(row.estimate.value) if expected is None else row.estimate.value == expected
    assert {"boxes_energy_minus_prior", "boxes_iou_of_a_prior_map"} <= {row.metric for row in section.metrics}


@pytest.mark.thorough
def test_gains_over_the_priors_cover_in_simulation(monkeypatch):
    """95 % intervals of the pointing game, paired, over cohorts of 38 findings, around the mean gain of such cohorts.

    Intervals of the hits alone, with the prior as if it were fixed, cover it in 83 % or less.
    """
    monkeypatch.setattr(position_prior, "_MOST", 50)
    cohorts = [metrics("half", 38, seed, resamples=200) for seed in range(30)]
    for base in ("centre", "prior"):
        gains = [found.gain[base]["pointing_game"][-1] for found in cohorts]
        true = np.mean([gain.value for gain in gains])
        assert sum(gain.low <= true <= gain.high for gain in gains) >= 26, base
