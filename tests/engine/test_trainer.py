"""What `auto` means on this machine."""

import pytest
import torch
from clinvit.engine import trainer
from clinvit.engine.recipe import Run
from torch import nn


@pytest.mark.parametrize(
    "layer, on_cpu_with_bf16",
    [
        (nn.Linear(2, 2), "bf16-mixed"),
        (nn.Conv2d(2, 2, 3), "bf16-mixed"),
        (nn.Conv3d(2, 2, 2, stride=2), "bf16-mixed"),  # a tubelet embedding
        (nn.Conv3d(2, 2, 3, padding=1), "32-true"),
    ],
)
def test_auto_precision(layer, on_cpu_with_bf16, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(trainer, "cpu_multiplies_bf16", lambda: True)
    model = nn.Sequential(layer)
    assert trainer.precision(Run(), model) == on_cpu_with_bf16
    assert trainer.precision(Run(precision="16-mixed"), model) == "16-mixed"
    monkeypatch.setattr(trainer, "cpu_multiplies_bf16", lambda: False)
    assert trainer.precision(Run(), model) == "32-true"
