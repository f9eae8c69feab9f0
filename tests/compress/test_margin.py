"""What a smaller graph loses, finding by finding: judged where there are patients enough, and said where not."""

import numpy as np
from clinvit.compress.margin import auroc_losses, within
from clinvit.eval.statistics.delong import delong_test

LABELS = ("Mass", "Hernia", "Edema")


def cases(n=400, noise=0.0):
    random = np.random.default_rng(0)
    truth = (random.random((n, 3)) < [0.4, 0.01, 0.5]).astype(float)
    truth[:6, 2] = np.nan
    before = 1 / (1 + np.exp(-(truth.round() * 1.5 + random.normal(size=(n, 3)))))
    before = np.nan_to_num(before, nan=0.5)
    after = np.clip(before + noise * random.normal(size=(n, 3)), 0, 1)
    return truth, before, after, [f"p{row // 2}" for row in range(n)]


def test_the_loss_is_the_paired_interval_by_patients():
    truth, before, after, patients = cases(noise=0.1)
    losses = auroc_losses(LABELS, truth, before, after, patients)
    wanted = delong_test(truth[:, 0], before[:, 0], after[:, 0], patients).difference
    assert (losses[0].value, losses[0].high) == (wanted.value, wanted.high) and losses[0].value > 0
    assert not within(losses, wanted.high) and within(losses, max(losses[0].high, losses[2].high) + 1e-9)


def test_a_rare_finding_is_said_to_be_too_rare():
    loss = auroc_losses(LABELS, *cases(noise=0.1))[1]
    assert np.isnan(loss.high) and loss.words(0.01).startswith("Hernia: too rare on validation to judge (a class has")


def test_scores_in_the_same_order_lose_nothing():
    truth, before, _, patients = cases()
    losses = auroc_losses(LABELS, truth, before, before / 2, patients)
    assert losses[0].value == losses[0].high == 0 and within(losses, 1e-9)
    assert "AUROC loss 0.0000, at most 0.0000 (95 % interval), below 0.01" in losses[0].words(0.01)


def test_failed_cases_are_left_out_of_both():
    truth, before, after, patients = cases(noise=0.1)
    after[:50] = np.nan
    wanted = auroc_losses(LABELS, truth[50:], before[50:], after[50:], patients[50:])
    assert auroc_losses(LABELS, truth, before, after, patients)[0] == wanted[0]
