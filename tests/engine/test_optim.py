"""Schedule and parameter groups against the official ones."""

import json

import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.core.errors import UserError
from clinvit.engine.optim import layer_of, make_optimizer, parameter_groups
from clinvit.engine.recipe import Optim
from clinvit.engine.schedule import learning_rate, optim_rate, scaled_rate
from torch import nn


def test_schedule_equals_the_official_one(pytestconfig):
    ref = json.loads((pytestconfig.rootpath / "tests/golden/lr_schedule.json").read_text())
    args = ref["args"]
    for epoch, expected in zip(ref["epoch"], ref["lr"]):
        rate = learning_rate(
            epoch,
            peak=args["lr"],
            minimum=args["min_lr"],
            warmup=args["warmup_epochs"],
            epochs=args["epochs"],
        )
        assert rate == pytest.approx(expected, rel=1e-12, abs=1e-18)


def test_groups_equal_the_official_ones(pytestconfig):
    ref = json.loads((pytestconfig.rootpath / "tests/golden/layer_decay.json").read_text())
    vit = ViT(Architecture(48, ref["depth"], 3, image_size=(32, 32), patch_size=8, channels=3, positions="learned"))
    vit.head = nn.Linear(48, 5)
    groups = parameter_groups(
        vit.named_parameters(), weight_decay=ref["weight_decay"], layer_decay=ref["layer_decay"], depth=ref["depth"],
        no_decay=vit.no_weight_decay(),
    )  # fmt: skip
    found = {name: (g["lr_scale"], g["weight_decay"]) for g in groups for name in g["names"]}
    assert found == {
        name: (pytest.approx(p["lr_scale"], rel=1e-12), p["weight_decay"]) for name, p in ref["params"].items()
    }


def test_frozen_parameters_are_left_out_and_rates_are_scaled():
    vit = ViT(Architecture(32, 2, 2, image_size=(16, 16), patch_size=8))
    groups = parameter_groups(vit.named_parameters(), weight_decay=0.1, layer_decay=0.5, depth=2)
    assert "pos_embed" not in {name for g in groups for name in g["names"]}
    optimizer = make_optimizer(groups, Optim(), rate=1.0)
    assert {g["lr"] for g in optimizer.param_groups} == {0.125, 0.25, 0.5, 1.0}
    assert layer_of("blocks.11.attn.qkv.weight", 12) == 12 and layer_of("fc_norm.weight", 12) == 13
    assert make_optimizer(groups, Optim(optimizer="lars"), 1.0).__class__.__name__ == "Lars"
    with pytest.raises(UserError, match="known: adamw"):
        make_optimizer(groups, Optim(optimizer="sgdd"), 1.0)


def test_linear_rule():
    assert scaled_rate(1.5e-4, 2048) == pytest.approx(1.2e-3)
    assert torch.tensor(scaled_rate(2.5e-4, 1024)).item() == pytest.approx(1e-3)


def test_cosine_per_epoch_equals_pytorchs():
    optim = Optim(epochs=9, warmup_epochs=0, batch_size=1, base_lr=2e-4 * 256, min_lr=5e-6, schedule="cosine_epoch")
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2e-4)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 9, 5e-6)
    for epoch in range(9):
        for part in (0, 0.5, 0.99):
            assert optim_rate(optim, epoch + part) == pytest.approx(annealing.get_last_lr()[0], rel=1e-9)
        sgd.step()
        annealing.step()


def test_what_is_decayed_follows_the_recipe():
    layer = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    decay = {
        way: {
            name: g["weight_decay"]
            for g in parameter_groups(layer.named_parameters(), **options)
            for name in g["names"]
        }
        for way, options in {
            "usual": {"weight_decay": 0.1},
            "all": {"weight_decay": 0.1, "decay_biases": True},
            "named": {"weight_decay": 0.1, "no_decay": ("0.weight",)},
        }.items()
    }
    assert decay["usual"] == {"0.weight": 0.1, "0.bias": 0, "1.weight": 0, "1.bias": 0}
    assert set(decay["all"].values()) == {0.1}
    assert set(decay["named"].values()) == {0}
