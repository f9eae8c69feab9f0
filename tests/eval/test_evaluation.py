"""The settings of an evaluation: refused when they are made, not after minutes of work."""

from dataclasses import FrozenInstanceError

import pytest
from clinvit.core.errors import UserError
from clinvit.eval import Evaluation


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"resamples": 0}, "0 resamples are too few"),
        ({"interval": "bc"}, "percentile, bca"),
        ({"rule": "best"}, "threshold rule 'best'"),
        ({"prevalence": 2}, "Prevalence 2 of 'all labels'"),
        ({"prevalence": {"mass": 0.1, "edema": 0.0}}, "Prevalence 0 of 'edema'"),
    ],
)
def test_wrong_settings(wrong, said):
    with pytest.raises(UserError, match=said):
        Evaluation(**wrong)


def test_a_prevalence_by_label():
    assert Evaluation().prevalences(["mass"]) == {}
    assert Evaluation(prevalence=0.1).prevalences(["mass", "edema"]) == {"mass": 0.1, "edema": 0.1}
    assert Evaluation(prevalence={"mass": 0.1}).prevalences(["mass", "edema"]) == {"mass": 0.1}
    with pytest.raises(UserError, match=r"'mas', which no table has \(did you mean 'mass'\?\)"):
        Evaluation(prevalence={"mas": 0.1}).prevalences(["mass"])


def test_it_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Evaluation().split = "val"
