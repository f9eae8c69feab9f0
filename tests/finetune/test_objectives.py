"""Losses and scores of numbers, grades and times: as their papers define them, unknown truth left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from clinvit.datasets.manifest.targets import Ordinal, Regression, Survival
from clinvit.finetune.losses import masked_bce, masked_cross_entropy
from clinvit.finetune.model import ModelCard
from clinvit.finetune.objectives import Findings, Several, objective, of_target, quality
from torch.nn import functional as F

NAN = float("nan")
TIMES = Survival("d", loss="hazards", times=(1.0, 2.0, 4.0))


def test_numbers_are_standardised_by_training_and_come_back_in_their_unit():
    target = Regression("age").fitted(np.array([[50.0], [70.0], [NAN]]))
    assert (target.mean, target.std, target.loss) == (60, 10, "mse")
    outputs, truth = torch.tensor([[1.0], [0.0], [3.0]]), torch.tensor([[60.0], [75.0], [NAN]])
    assert of_target(target).loss(outputs, truth).item() == pytest.approx((1 + 2.25) / 2)
    assert of_target(replace(target, loss="l1")).loss(outputs, truth).item() == pytest.approx((1 + 1.5) / 2)
    np.testing.assert_allclose(of_target(target).activate(outputs), [[70], [60], [90]])


def test_grades_by_corn():
    """Each threshold is learned among the cases that reached the one before (Shi et al. 2021, equation 5)."""
    outputs, truth = torch.randn(5, 3), torch.tensor([[0.0], [3], [1], [NAN], [2]])
    total, count = 0.0, 0
    for k in range(3):
        rows = [i for i in range(5) if truth[i, 0] >= k]
        wanted = (truth[rows, 0] > k).float()
        total += F.binary_cross_entropy_with_logits(outputs[rows, k], wanted, reduction="sum").item()
        count += len(rows)
    own = of_target(Ordinal("g", loss="corn", highest=3))
    assert own.loss(outputs, truth).item() == pytest.approx(total / count, rel=1e-5)
    falling = own.activate(outputs)
    assert (falling.diff(dim=1) <= 0).all() and torch.allclose(falling[:, 1], outputs[:, :2].sigmoid().prod(dim=1))


def test_hazards_are_the_likelihood_of_intervals():
    h = torch.rand(5, 3)
    outputs = h.logit()
    # An event in the second interval; censored past half of the third, and before half of it; an event past the last
    # interval; unknown.
    truth = torch.tensor([[2.0, 1], [3.0, 0], [2.5, 0], [9.0, 1], [NAN, NAN]])
    alive = 1 - h
    likely = [alive[0, 0] * h[0, 1], alive[1].prod(), alive[2, :2].prod(), alive[3].prod()]
    wanted = -torch.stack(likely).log().mean()
    assert of_target(TIMES).loss(outputs, truth).item() == pytest.approx(wanted.item(), rel=1e-4)
    scores = of_target(TIMES).activate(outputs)
    torch.testing.assert_close(scores[:, 1:], alive.cumprod(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores[:, 0], -scores[:, 1:].sum(dim=1))
    at_zero = of_target(TIMES).loss(outputs[:1], torch.tensor([[0.0, 1]])).item()
    assert at_zero == pytest.approx(-h[0, 0].log().item(), rel=1e-4), "an event at once is in the first interval"


def test_cox_is_the_partial_likelihood_of_a_batch():
    outputs = torch.tensor([[0.3], [-1.0], [2.0], [0.1]], requires_grad=True)
    truth = torch.tensor([[2.0, 1], [3.0, 0], [1.0, 1], [NAN, NAN]])
    r = outputs.detach()[:, 0]
    wanted = -((r[0] - r[:2].logsumexp(0)) + (r[2] - r[:3].logsumexp(0))) / 2
    own = of_target(Survival("d", loss="cox", times=(1.0, 2.0), baseline=(0.1, 0.5)))
    assert own.loss(outputs, truth).item() == pytest.approx(wanted.item(), rel=1e-5)
    own.loss(outputs, torch.tensor([[2.0, 0], [3.0, 0], [1.0, 0], [NAN, NAN]])).backward()
    assert torch.isfinite(outputs.grad).all() and (outputs.grad == 0).all(), "no event, nothing to learn"
    scores = own.activate(outputs.detach())
    torch.testing.assert_close(scores[:, 2], torch.exp(-0.5 * r.exp()))


@pytest.mark.parametrize("target", [Regression("a"), Ordinal("g", highest=2), TIMES, replace(TIMES, loss="cox")])
def test_unknown_truth_and_failed_gradients(target):
    outputs = torch.randn(3, target.width, requires_grad=True)
    loss = of_target(target).loss(outputs, torch.full((3, len(target.truth)), NAN))
    loss.backward()
    assert loss.item() == 0 and (outputs.grad == 0).all()


def test_several_targets_share_a_network():
    kinds = [Regression("a"), Ordinal("g", highest=2), TIMES]
    own, outputs = Several(kinds), torch.randn(4, 6)
    truth = torch.tensor([[1.0, 0, 2, 1], [NAN, 1, 3, 0], [2, NAN, 1, 1], [0, 2, NAN, NAN]])
    parts = zip(kinds, outputs.split([1, 2, 3], dim=1), truth.split([1, 1, 2], dim=1))
    wanted = sum(of_target(each).loss(out, known) for each, out, known in parts)
    torch.testing.assert_close(own.loss(outputs, truth), wanted)
    assert own.activate(outputs).shape == (4, sum(len(each.columns) for each in kinds))


def test_findings_are_learned_and_scored_as_ever():
    outputs, truth = torch.randn(6, 3), F.one_hot(torch.arange(6) % 3).float()
    for exclusive, loss in ((False, masked_bce), (True, masked_cross_entropy)):
        own = Findings(exclusive)
        assert own.loss(outputs, truth) == loss(outputs, truth)
        wanted = outputs.softmax(dim=1) if exclusive else outputs.sigmoid()
        assert torch.equal(own.activate(outputs), wanted)
    assert isinstance(objective(_card(targets=())), Findings)
    assert "targets" not in _card(targets=()).to_dict(), "cards of findings stay as they were"
    card = _card(targets=(TIMES.plain(),))
    assert isinstance(objective(card), Several) and ModelCard.from_dict(card.to_dict()).kinds == (TIMES,)


def _card(**changes) -> ModelCard:
    from clinvit.backbone.sizes import architecture
    from clinvit.finetune.recipe import View

    return ModelCard(
        labels=("d",), meaning={}, exclusive=False, mode="full", network="vit", pool="mean",
        arch=architecture("tiny"), mean=(0.5,), std=(0.5,), view=View(), cache_px=64, **changes,
    )  # fmt: skip


def test_quality_is_one_for_perfect_scores_and_undefined_is_the_worst():
    age, grade = Regression("a"), Ordinal("g", highest=2)
    truth = np.array([[1.0, 0, 2, 1], [5, 1, 3, 0], [2, 2, 1, 1], [NAN, NAN, NAN, NAN]])
    atleast = (truth[:, 1:2] > [0, 1]).astype(float)
    scores = np.column_stack([truth[:, 0], atleast, -truth[:, 2], np.ones((4, 3))])
    assert quality([age, grade, TIMES], truth, scores) == pytest.approx(1)
    assert quality([age], np.full((3, 1), NAN), np.ones((3, 1))) == -float("inf")
