"""What is watched of a model: means by patient, one chance of a false alarm for all of them, shifts of each kind."""

import numpy as np
import pytest
from clinvit.eval.statistics.drift import (
    ABOVE,
    BELOW,
    CALIBRATION,
    EDGES,
    FAILURE,
    IN_BOUNDS,
    OUT_OF_BOUNDS,
    POSITIVE,
    SCORES,
    SENSITIVITY,
    SPECIFICITY,
    TOO_FEW,
    Cases,
    by_patient,
    case_values,
    references,
    watch,
)
from scipy.special import expit

LABELS = ("Mass",)


def draw(rng, count, prevalence=0.3, apart=2.5, moved=0.0, failing=0.03, known=1.0, each=1):
    """Cases of a label whose scores are right where nothing is moved."""
    truth = rng.binomial(1, prevalence, count).astype(float)
    odds = apart * (rng.normal(size=count) + apart * (truth - 0.5)) + np.log(prevalence / (1 - prevalence))
    failed = rng.uniform(size=count) < failing
    score = np.where(failed, np.nan, expit(odds + moved))
    predicted = np.where(failed, np.nan, score >= 0.3)
    truth[rng.uniform(size=count) > known] = np.nan
    return Cases(np.arange(count) // each, failed, truth[:, None], score[:, None], predicted[:, None])


def hold(reference, cases, alpha=0.05, notice=0.1):
    bounds, _ = references(reference, LABELS, alpha)
    count = len(cases.failed)
    times = dict.fromkeys((False, True), np.arange(count))
    found = watch(bounds, cases, LABELS, times, np.zeros(count, int), alpha, notice)
    return {each.reference.kind: each for each in found}


def test_all_quantities_together_raise_false_alarms_at_most_as_often_as_alpha_says():
    rng, runs, alpha = np.random.default_rng(0), 25, 0.3
    alarms = 0
    for _ in range(runs):
        found = hold(draw(rng, 300), draw(rng, 1000), alpha)
        alarms += any(each.verdict == OUT_OF_BOUNDS for each in found.values())
    assert alarms / runs <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize(
    "kind, side, change",
    [
        (FAILURE, ABOVE, {"failing": 0.2}),
        (SCORES, BELOW, {"moved": 1.5}),  # fewer scores up to an edge
        (POSITIVE, ABOVE, {"prevalence": 0.6}),
        (SENSITIVITY, BELOW, {"moved": -2.5}),
        (SPECIFICITY, BELOW, {"moved": 2.5}),
        (CALIBRATION, BELOW, {"moved": 1.5}),  # scores above the truth
    ],
)
def test_a_shift_of_each_kind_is_found_on_its_side_and_since_when(kind, side, change):
    rng = np.random.default_rng(1)
    reference, before, after = draw(rng, 1500), draw(rng, 700), draw(rng, 1500, **change)
    joined = Cases(np.arange(2200), *(np.concatenate(pair) for pair in zip(before[1:], after[1:])))
    found = hold(reference, joined)[kind]
    assert found.verdict == OUT_OF_BOUNDS and found.side == side
    assert 700 < found.since < 1900 and found.evidence >= found.limit
    quiet = hold(reference, Cases(np.arange(700), *before[1:]))[kind]
    assert quiet.verdict == IN_BOUNDS and quiet.since is None and quiet.side == ""


def test_too_few_cases_are_no_verdict_in_either_way():
    rng = np.random.default_rng(2)
    found = hold(draw(rng, 1000), draw(rng, 12))
    assert {each.verdict for each in found.values()} == {TOO_FEW}
    unknown = hold(draw(rng, 1000), draw(rng, 1500, known=0.0))
    for kind in (SENSITIVITY, SPECIFICITY, CALIBRATION):
        assert unknown[kind].verdict == TOO_FEW and unknown[kind].patients == 0 and np.isnan(unknown[kind].value)
    assert unknown[SCORES].verdict == IN_BOUNDS


def test_a_smaller_change_to_notice_needs_more_cases():
    rng = np.random.default_rng(3)
    reference, cases = draw(rng, 1000), draw(rng, 500)
    assert hold(reference, cases, notice=0.2)[POSITIVE].verdict == IN_BOUNDS
    assert hold(reference, cases, notice=0.001)[POSITIVE].verdict == TOO_FEW


def test_copies_of_a_patients_cases_are_no_further_evidence():
    rng = np.random.default_rng(4)
    reference, cases = draw(rng, 600), draw(rng, 400, prevalence=0.5)
    copied = Cases(*(np.repeat(column, 5, axis=0) for column in cases))
    once, five = hold(reference, cases), hold(reference, copied)
    for kind, each in once.items():
        assert five[kind].patients == each.patients
        assert five[kind].evidence == pytest.approx(each.evidence) and five[kind].value == pytest.approx(each.value)


def test_patients_count_when_their_last_case_has_come():
    values = np.array([[1.0], [0.0], [np.nan], [0.0], [1.0]])
    means, last = by_patient(values, np.array([7, 3, 3, 7, 5]), np.array([0, 1, 2, 4, 3]))
    np.testing.assert_array_equal(means[:, 0], [0.0, 1.0, 0.5])
    np.testing.assert_array_equal(last, [1, 4, 3])


def test_which_cases_count_for_what():
    nan = np.nan
    cases = Cases(
        patients=np.arange(4), failed=np.array([0, 0, 0, 1], bool), truth=np.array([[1.0], [0.0], [nan], [1.0]]),
        scores=np.array([[0.25], [0.75], [0.5], [nan]]), predicted=np.array([[0.0], [1.0], [1.0], [nan]]),
    )  # fmt: skip
    expected = {
        FAILURE: [0, 0, 0, 1], POSITIVE: [0, 1, 1, nan], SENSITIVITY: [0, nan, nan, nan],
        SPECIFICITY: [nan, 0, nan, nan], CALIBRATION: [0.875, 0.125, nan, nan],
    }  # fmt: skip
    for kind, values in expected.items():
        np.testing.assert_array_equal(case_values(kind, cases, 0)[:, 0], values, err_msg=kind)
    shares = case_values(SCORES, cases, 0)
    np.testing.assert_array_equal(shares[0], [edge >= 0.25 for edge in EDGES])
    assert np.isnan(shares[3]).all()


def test_what_the_reference_lacks_is_not_watched_and_said():
    rng = np.random.default_rng(5)
    cases = draw(rng, 200, prevalence=0.3)
    cases.truth[:] = np.where(cases.truth == 1, np.nan, cases.truth)
    found, missing = references(cases, LABELS, 0.05)
    assert missing == {"sensitivity of Mass": "no threshold or no positive case"}
    assert {each.kind for each in found} == {FAILURE, SCORES, POSITIVE, SPECIFICITY, CALIBRATION}
    for each in found:
        assert all(low <= value <= high for low, value, high in zip(each.low, each.value, each.high))
