"""Do 95 % intervals hold the truth, and are equal models and groups called different in 5 % at most? By simulation.

A share of runs may miss its limit by 3.5 standard errors of so many runs: the small ones find a gross fault in seconds,
those under `-m thorough` one of two or three percent. `docs/evidence/coverage.md` has the shares of many runs.
"""

import numpy as np
import pytest

from .simulations import (
    CLUSTERED,
    COHORTS,
    GROUPS,
    MACROS,
    MODELS,
    Cohort,
    Tally,
    calibrations,
    macro_means,
    one_finding,
    several_models,
    subgroup_macros,
)

HELD = 0.935  # of intervals; of tests that are not rejected 0.94
FEW = 25  # intervals from which a share is looked at
# Of a finding of one or three patients these have neither interval nor p.
RARE = (
    *("average precision", "f1", "mcc", "bootstrap", "DeLong", "McNemar", "macro"),
    *("difference of AUROC", "difference of average", "difference of sens"),
)


def check(tally: Tally, positives: int) -> None:
    wrong = {}
    for name, runs, given, held in tally.rows():
        if positives < 10 and name.startswith(RARE):
            assert given == 0, f"{name}: an interval or p with {positives} positive patients"
        # Where few of the runs get an interval, those are the ones with more patients than the true share means.
        if given < max(FEW, runs / 2):
            continue
        least = 0.94 if "test" in name or "verdict" in name or "Holm" in name else HELD
        if held < least - 3.5 * np.sqrt(least * (1 - least) / given):
            wrong[name] = held, given
    assert not wrong


def name_of(cohort: Cohort) -> str:
    counts = "-".join(map(str, cohort.positives))
    return f"{'about ' * cohort.by_chance}{counts} of {cohort.patients}, {cohort.images} images"


@pytest.mark.parametrize("cohort", COHORTS[:8], ids=name_of)
def test_one_finding_and_two_equal_models(cohort):
    check(one_finding(cohort, 40, resamples=150), cohort.positives[0])


@pytest.mark.parametrize("cohort", MACROS[:4], ids=name_of)
def test_means_over_findings(cohort):
    check(macro_means(cohort, 40, resamples=150), max(cohort.positives))


@pytest.mark.parametrize("cohort", COHORTS[:8], ids=name_of)
def test_scores_that_are_right(cohort):
    check(calibrations(cohort, 60), cohort.positives[0])


@pytest.mark.parametrize("cohort", GROUPS[:2], ids=name_of)
def test_groups_that_differ_by_chance(cohort):
    check(subgroup_macros(cohort, 60), max(cohort.positives))


def test_six_equal_models():
    check(several_models(Cohort((40,), **CLUSTERED), 25, resamples=499), 40)


@pytest.mark.thorough
@pytest.mark.parametrize("cohort", COHORTS, ids=name_of)
def test_one_finding_in_many_samples(cohort):
    check(one_finding(cohort, 1000, resamples=400), cohort.positives[0])


@pytest.mark.thorough
@pytest.mark.parametrize("cohort", MACROS, ids=name_of)
def test_means_over_findings_in_many_samples(cohort):
    check(macro_means(cohort, 1000, resamples=400), max(cohort.positives))


@pytest.mark.thorough
@pytest.mark.parametrize("cohort", COHORTS, ids=name_of)
def test_scores_that_are_right_in_many_samples(cohort):
    check(calibrations(cohort, 2000), cohort.positives[0])


@pytest.mark.thorough
@pytest.mark.parametrize("cohort", GROUPS, ids=name_of)
def test_groups_that_differ_by_chance_in_many_samples(cohort):
    check(subgroup_macros(cohort, 1500), max(cohort.positives))


@pytest.mark.thorough
@pytest.mark.parametrize("cohort", MODELS, ids=name_of)
def test_six_equal_models_in_many_samples(cohort):
    check(several_models(cohort, 1000), max(cohort.positives))
