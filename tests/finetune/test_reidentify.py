"""The head that links a patient's images: its loss, batches without a patient twice, folds by patient."""

import numpy as np
import pytest
import torch
from clinvit.eval.statistics.identification import identification
from clinvit.finetune.reidentify import FOLDS, HeadFit, info_nce, linked_features, pairs_of_patients


def test_the_loss_is_the_formula():
    rng = torch.Generator().manual_seed(0)
    q, g = (torch.nn.functional.normalize(torch.randn(6, 4, generator=rng, dtype=torch.float64), dim=1) for _ in "qg")
    scale, smoothing = torch.tensor(1.3, dtype=torch.float64), 0.1
    logits, total = (scale.exp() * q @ g.T).numpy(), 0.0
    for matrix in (logits, logits.T):
        log = matrix - np.log(np.exp(matrix).sum(axis=1, keepdims=True))
        target = np.full((6, 6), smoothing / 6) + (1 - smoothing) * np.eye(6)
        total += -(target * log).sum(axis=1).mean() / 2
    assert float(info_nce(q, g, scale)) == pytest.approx(total, abs=1e-12)


def test_no_patient_is_twice_in_a_batch_and_both_images_are_his():
    draw = np.random.default_rng(0)
    patients = [f"p{i}" for i in draw.integers(0, 25, 80)]
    several = {name for name in patients if patients.count(name) > 1}
    seen = []
    for rows in pairs_of_patients(patients, 8, draw):
        names = [patients[row] for row in rows[:, 0]]
        assert len(set(names)) == len(names) and names == [patients[row] for row in rows[:, 1]]
        assert (rows[:, 0] != rows[:, 1]).all()
        seen += names
    assert set(seen) <= several and len(several) - len(seen) <= 1


def patients_with_an_anatomy(seed: int = 0):
    """Features in which a patient is a direction among larger ones that say nothing of him."""
    rng = np.random.default_rng(seed)
    patients = [f"p{i // 3}" for i in range(360)]
    anatomy = np.repeat(rng.normal(size=(120, 12)), 3, axis=0)
    return np.column_stack([anatomy + 0.3 * rng.normal(size=(360, 12)), 4 * rng.normal(size=(360, 36))]), patients


@pytest.mark.slow
def test_a_trained_head_links_patients_that_it_has_not_seen():
    features, patients = patients_with_an_anatomy()
    before = identification(features, patients)
    folds = linked_features(HeadFit(features, patients), patients)
    assert len(folds) == FOLDS
    inside = np.concatenate([np.full(len(rows), number) for number, (rows, _) in enumerate(folds)])
    rows = np.concatenate([rows for rows, _ in folds])
    assert sorted(rows) == list(range(360))
    for name in set(patients):
        assert len(set(inside[[list(rows).index(i) for i in range(360) if patients[i] == name]])) == 1
    vectors = np.concatenate([vectors for _, vectors in folds])
    after = identification(vectors, [patients[row] for row in rows], inside.astype(str).tolist())
    assert before.auroc.value < 0.8 and after.auroc.value > 0.95


def test_too_few_patients_train_no_head():
    features, patients = patients_with_an_anatomy()
    assert linked_features(HeadFit(features[:24], patients[:24]), patients[:24]) == []
