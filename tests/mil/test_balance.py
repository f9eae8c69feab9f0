"""Rare classes: weights by class equal those worked out by hand, and drawn bags come equally often, the same again."""

import numpy as np
import pytest
import torch
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.slides.bags import BagCases
from clinvit.finetune.losses import masked_bce, masked_cross_entropy
from clinvit.mil.balance import draw_weights, weighted_criterion
from clinvit.mil.recipe import Mil

TARGETS = np.array([[1.0], *[[0.0]] * 9, [np.nan]], np.float32)


def test_weights_of_a_binary_label():
    loss = weighted_criterion(TARGETS, ("tumor",), exclusive=False)
    for truth, weight in ((1.0, 5.0), (0.0, 10 / 18)):
        logits, target = torch.tensor([[0.7]]), torch.tensor([[truth]])
        assert loss(logits, target) == pytest.approx(weight * float(masked_bce(logits, target)))
    assert loss(torch.zeros(2, 1), torch.tensor([[1.0], [float("nan")]])) == pytest.approx(5 * np.log(2))


def test_weights_of_exclusive_classes():
    targets = np.eye(3, dtype=np.float32)[[0] * 6 + [1] * 3 + [2]]
    loss = weighted_criterion(targets, ("a", "b", "c"), exclusive=True)
    logits = torch.tensor([[0.3, -0.2, 1.0]])
    for place, weight in enumerate((10 / 18, 10 / 9, 10 / 3)):
        target = torch.eye(3)[[place]]
        assert loss(logits, target) == pytest.approx(weight * float(masked_cross_entropy(logits, target)))


@pytest.mark.parametrize("exclusive, words", [(False, "no training case with no a"), (True, "no training case with b")])
def test_a_class_without_a_case_is_refused(exclusive, words):
    with pytest.raises(DataError, match=words):
        weighted_criterion(np.array([[1.0, 0.0], [1.0, 0.0]])[:, : 1 + exclusive], ("a", "b"), exclusive)


class Numbers:
    """Ten bags of one instance, which is the bag's number."""

    width = 1

    def count(self, row):
        return 1

    def bag(self, row, instances=None):
        return np.array([[row]], np.float32)


def test_drawn_bags_are_balanced_and_come_again():
    targets = TARGETS[:10]
    cases = BagCases(Numbers(), np.arange(10), targets, chances=draw_weights(targets))
    samples = [(position % 10, seed) for seed, position in enumerate(range(4000))]
    found = cases.__getitems__(samples)
    assert float(found["target"].mean()) == pytest.approx(0.5, abs=0.03)
    assert set(found["row"].tolist()) == set(range(10))
    assert torch.equal(found["row"], cases.__getitems__(samples)["row"])
    assert np.allclose(draw_weights(targets), [0.5, *[0.5 / 9] * 9])


def test_an_unknown_balance_is_refused():
    with pytest.raises(UserError, match="balance 'weights': one of none, loss, sampling"):
        Mil(balance="weights")
