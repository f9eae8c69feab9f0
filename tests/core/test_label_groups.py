"""Which names of labels make a group of exclusive classes."""

import pytest
from clinvit.core.label_groups import group_of, groups_of


@pytest.mark.parametrize("label, group", [("view=AP", "view"), (" view = AP", "view"), ("view=a=b", "view")])
def test_what_stands_before_the_sign_is_the_group(label, group):
    assert group_of(label) == group


@pytest.mark.parametrize("label", ["age>=60", "EF<=30", "a==b", "x!=y", "size≥=3", "stage=", "=a", "Edema"])
def test_a_comparison_or_half_a_name_is_a_finding(label):
    assert group_of(label) == ""


def test_labels_that_compare_do_not_exclude_each_other():
    assert groups_of(["age>=60", "age>=70", "view=AP", "view=PA", "side=L"]) == {"view": [2, 3]}
