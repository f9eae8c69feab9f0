"""Gaps between groups: intervals that cover, no false alarm beyond 5 %, and a worst group only where it is shown."""

import numpy as np
import pytest
from clinvit.eval.statistics.fairness import (
    CALIBRATION,
    METRICS,
    ODDS,
    OPPORTUNITY,
    fairness_gaps,
    with_intersections,
    worst_groups,
)
from clinvit.eval.statistics.groups import Group
from clinvit.eval.statistics.resampling import PatientBootstrap


def cohort(random, patients, cases_each=1, sensitivity=(0.8, 0.8), prevalence=0.4):
    """Truth, scores, and whether a case is of the first group; cases of one patient resemble each other."""
    first = np.repeat(random.random(patients) < 0.3, cases_each)
    truth = np.repeat(random.random(patients) < prevalence, cases_each).astype(float)
    luck = np.repeat(random.random(patients), cases_each)
    luck = np.where(random.random(len(luck)) < 0.5, luck, random.random(len(luck)))
    caught = luck < np.where(first, *sensitivity)
    score = np.where(truth == 1, np.where(caught, 0.8, 0.2), np.where(luck < 0.2, 0.7, 0.1))
    return truth[:, None], score[:, None], first, np.repeat(np.arange(patients), cases_each).astype(str)


def gaps(truth, score, parted, names, threshold=0.5):
    return fairness_gaps(truth, score, [threshold], ["Mass"], parted, PatientBootstrap(names, 10))


@pytest.mark.parametrize(
    ("patients", "cases_each", "sensitivity"), [(150, 1, (0.8, 0.8)), (400, 1, (0.98, 0.8)), (200, 3, (0.85, 0.7))]
)
def test_the_interval_of_a_gap_covers_it(patients, cases_each, sensitivity):
    random, covered, counted = np.random.default_rng(0), 0, 0
    for _ in range(600):
        truth, score, first, names = cohort(random, patients, cases_each, sensitivity)
        own = gaps(truth, score, [("sex", Group("F", first))], names)
        gap = next(each for each in own if each.metric == OPPORTUNITY)
        if not np.isnan(gap.difference.low):
            counted += 1
            covered += gap.difference.low <= sensitivity[0] - sensitivity[1] <= gap.difference.high
    assert counted > 500
    assert 0.925 <= covered / counted <= 0.985


def test_equal_groups_are_called_different_in_one_of_twenty_runs():
    random, alarms = np.random.default_rng(1), 0
    for _ in range(300):
        truth, score, first, names = cohort(random, 300)
        ages = [
            ("age", Group(name, rows))
            for name, rows in zip("abc", np.eye(3, dtype=bool)[random.integers(3, size=300)].T)
        ]
        parted = with_intersections([("sex", Group("F", first)), ("sex", Group("M", ~first)), *ages], np.arange(300))
        own = gaps(truth, score, parted, names)
        alarms += any(gap.shown for gap in own)
    assert alarms <= 26  # 5 % of 300, and three standard errors


def test_a_worst_group_is_named_only_where_it_is_shown():
    truth, score, first, names = cohort(np.random.default_rng(2), 600, 1, (0.4, 0.9))
    found = gaps(truth, score, [("sex", Group("F", first)), ("sex", Group("M", ~first))], names)
    named = {(gap.metric, gap.group) for gap in worst_groups(found)}
    assert (OPPORTUNITY, "F") in named and ODDS not in {metric for metric, _ in named}
    equal = cohort(np.random.default_rng(3), 600)
    assert worst_groups(gaps(*equal[:2], [("sex", Group("F", equal[2]))], equal[3])) == []


def test_fewer_than_ten_patients_on_a_side_have_no_interval_and_no_p():
    truth, score, first, names = cohort(np.random.default_rng(4), 200)
    first[:] = False
    first[np.flatnonzero(truth[:, 0] == 1)[:9]] = True
    found = {gap.metric: gap for gap in gaps(truth, score, [("sex", Group("F", first))], names)}
    for metric in (OPPORTUNITY, CALIBRATION):
        assert np.isnan(found[metric].p) and np.isnan(found[metric].difference.low) and found[metric].difference.reason


def test_two_groups_are_one_comparison_and_crossed_groups_are_not_taken_for_mirrored():
    truth, score, first, names = cohort(np.random.default_rng(5), 300)
    old = np.random.default_rng(6).random(300) < 0.5
    parted = [
        ("sex", Group("F", first)),
        ("sex", Group("M", ~first)),
        ("age", Group("60+", old)),
        ("age", Group("-59", ~old)),
    ]
    found = gaps(truth, score, with_intersections(parted, np.arange(300)), names)
    assert {gap.column for gap in found} == {"sex", "age", "sex, age"}
    assert {(gap.column, gap.group) for gap in found if gap.mirrored} == {("sex", "M"), ("age", "-59")}
    pair = [gap for gap in found if gap.metric == ODDS and gap.column == "sex"]
    assert pair[0].difference.value == pytest.approx(-pair[1].difference.value)
    assert pair[0].adjusted == pair[1].adjusted


def test_without_threshold_only_calibration_is_compared():
    truth, score, first, names = cohort(np.random.default_rng(7), 100)
    assert {gap.metric for gap in gaps(truth, score, [("sex", Group("F", first))], names, np.nan)} == {CALIBRATION}
    assert {gap.metric for gap in gaps(truth, score, [("sex", Group("F", first))], names)} == set(METRICS)
