"""Idle units: the merged network equals the unmerged one, batch norms fold, units are chosen, annealed, learned."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.encoder import open_vit, save_encoder
from clinvit.backbone.idle import activation_changes, anneal, make_idle, put_active_first
from clinvit.backbone.mlp import IdleMlp
from clinvit.backbone.sizes import Architecture, Rotary
from clinvit.backbone.vit import ViT
from clinvit.compress.idle import merge_idle
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.engine.checkpoint import LAST
from clinvit.finetune.adaptation import add_lora, merge_lora
from clinvit.finetune.idle import idle_architecture
from clinvit.finetune.model import build_model, load_card, load_model
from clinvit.finetune.recipe import Finetune
from clinvit.finetune.run import finetune
from clinvit.finetune.training import FineTuning
from torch import nn
from torch.nn import functional as F

ARCH = Architecture(32, 2, 4, image_size=(32, 32), patch_size=8)
IDLE = replace(ARCH, block_active=(32, 17))
KINDS = {
    "plain": IDLE,
    "batch norm": replace(IDLE, mlp_batch_norm=True),
    "rotary, layer scale": replace(IDLE, rotary=Rotary("axial"), positions="none", layer_scale=True, registers=2),
    "norm after, quick GELU": replace(IDLE, norm_after=True, activation="quick_gelu"),
    "pruned before": replace(IDLE, block_hidden=(40, 50), block_heads=(1, 3)),
    "clips, no class token": replace(IDLE, frames=4, tubelet=2, class_token=False, positions="sine1d"),
}


def shaken(arch, dtype=torch.float32):
    """A ViT whose every tensor counts, in eval mode."""
    torch.manual_seed(0)
    vit = ViT(arch).to(dtype)
    for name, value in vit.state_dict().items():
        if value.is_floating_point() and name != "pos_embed":
            noise = torch.randn_like(value)
            value.copy_(noise.abs() + 0.5 if name.endswith("running_var") else value + 0.2 * noise)
    return vit.eval()


def pixels(arch, dtype=torch.float32):
    torch.manual_seed(1)
    return torch.randn(3, arch.channels, *([arch.frames] if arch.frames > 1 else []), *arch.image_size, dtype=dtype)


def card_of(arch):
    return EncoderCard(arch, (0.5,), (0.25,))


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_network_equals_the_unmerged(kind, dtype, within):
    vit = shaken(KINDS[kind], dtype)
    merged, card = merge_idle(vit, card_of(vit.arch))
    x = pixels(vit.arch, dtype)
    with torch.no_grad():
        own, same = vit(x).sequence(), merged(x).sequence()
    assert own.std() > 0.1 and float((own - same).abs().max() / own.abs().max()) < within
    assert not any(isinstance(part, IdleMlp | nn.BatchNorm1d) for part in merged.modules())
    assert card.arch.weights < vit.arch.weights


def test_the_published_variant_folds_into_three_matmuls_as_published():
    """y = fc3(act(fc2 x)) + fc1 x, fc1 with the shortcut, from NumPy's own arithmetic of the unfolded block."""
    arch = replace(ARCH, depth=1, block_active=(32,), mlp_batch_norm=True)
    vit = shaken(arch, torch.float64)
    block, merged = vit.blocks[0], merge_idle(vit, card_of(arch))[0].blocks[0]
    x = np.random.default_rng(0).normal(size=(7, 32))
    tensors = {name: value.numpy() for name, value in block.state_dict().items()}

    def norm(name, values):
        mean, var = tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"]
        return (values - mean) / np.sqrt(var + 1e-5) * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    hidden = norm("norm2", x) @ tensors["mlp.fc1.weight"].T + tensors["mlp.fc1.bias"]
    hidden[:, :32] = F.gelu(torch.from_numpy(hidden[:, :32])).numpy()
    wanted = x + norm("mlp.norm", hidden) @ tensors["mlp.fc2.weight"].T + tensors["mlp.fc2.bias"]
    mlp = {name: value.numpy() for name, value in merged.mlp.state_dict().items()}
    inner = F.gelu(torch.from_numpy(x @ mlp["fc1.weight"].T + mlp["fc1.bias"])).numpy()
    found = inner @ mlp["fc2.weight"].T + x @ (mlp["shortcut.weight"] + np.eye(32)).T + mlp["fc2.bias"]
    assert isinstance(merged.norm2, nn.Identity) and np.abs(found - wanted).max() < 1e-12


def test_three_quarters_idle_leave_three_eighths_of_the_mlp():
    arch = idle_architecture(Architecture(384, 12, 6), Finetune(idle=0.75))
    merged, _ = merge_idle(ViT(arch).eval(), card_of(arch))
    assert arch.block_active == (384,) * 12
    weights = sum(part.weight.numel() for part in merged.blocks[0].mlp.modules() if isinstance(part, nn.Linear))
    assert weights == 3 * 384**2
    total = sum(parameter.numel() for parameter in merged.parameters())
    assert total == pytest.approx(12.8e6, rel=0.03)


def test_the_shares_of_the_last_digits_of_floats_raise_no_count():
    ten = replace(ARCH, mlp_ratio=1000 / 32)
    assert idle_architecture(ten, Finetune(idle=0.7)).block_active == (300, 300)
    assert idle_architecture(ten, Finetune(idle=0.9)).block_active == (100, 100)
    assert idle_architecture(ten, Finetune(idle=0.7505)).block_active == (250, 250)


def test_a_network_in_the_order_of_its_units_is_the_same_and_those_that_bend_most_stay_active():
    vit = shaken(ARCH)
    make_idle(vit, IDLE)
    anneal(vit, 0.0)
    x = pixels(ARCH)
    with torch.no_grad():
        vit.train()
        plain = vit(x).sequence()
        vit.eval()
        changes = activation_changes(vit, [x[:2], x[2:]])
        seen = []
        hook = vit.blocks[1].mlp.fc1.register_forward_hook(lambda _, given, out: seen.append(out))
        for mlp in (block.mlp for block in vit.blocks):
            mlp.active = 128  # all: the network that is looked at is the plain one
        vit(x)
        hook.remove()
        for mlp, active in zip((block.mlp for block in vit.blocks), IDLE.block_active, strict=True):
            mlp.active = active
        torch.testing.assert_close(changes[1].float(), (F.gelu(seen[0]) - seen[0]).abs().mean(dim=(0, 1)))
        put_active_first(vit, changes)
        again = activation_changes(vit, [x])
        assert all(bool((change.diff() <= 1e-6).all()) for change in again)
        torch.testing.assert_close(vit.train()(x).sequence(), plain, atol=1e-5, rtol=1e-5)


def test_the_ramp_goes_from_the_plain_mlp_to_the_linear_one_and_eval_mode_is_always_linear():
    torch.manual_seed(0)
    mlp, x = IdleMlp(8, 32, 8, nn.GELU), torch.randn(2, 5, 8)
    hidden = mlp.fc1(x)
    linear = mlp.fc2(torch.cat([F.gelu(hidden[..., :8]), hidden[..., 8:]], dim=-1))
    bent = mlp.fc2(F.gelu(hidden))
    for ramp, wanted in ((0.0, bent), (0.25, torch.lerp(bent, linear, 0.25)), (1.0, linear)):
        mlp.anneal(ramp)
        torch.testing.assert_close(mlp.train()(x), wanted)
        torch.testing.assert_close(mlp.eval()(x), linear)


@pytest.mark.parametrize("ramp", [0.0, 0.5, 1.0])
def test_idle_units_still_learn(ramp):
    vit = shaken(IDLE).train()
    anneal(vit, ramp)
    vit(pixels(ARCH)).patches.square().sum().backward()
    for block, active in zip(vit.blocks, IDLE.block_active, strict=True):
        assert bool((block.mlp.fc1.weight.grad[active:].abs().sum(dim=1) > 0).all())
        assert bool((block.mlp.fc2.weight.grad[:, active:].abs().sum(dim=0) > 0).all())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"idle": 1.0}, "idle 1 is out of range: a number from 0 to below 1"),
        ({"idle": -0.1}, "idle -0.1 is out of range"),
        ({"idle": 0.5, "idle_ramp": 2.0}, "idle_ramp 2 is out of range"),
        ({"idle": 0.5, "idle_norm": "group"}, "idle_norm is layer or batch, not 'group'"),
        ({"idle_norm": "batch"}, "idle_norm batch is for idle units: set --idle 0.75 too"),
        ({"idle": 0.5, "mode": "linear"}, "mode 'linear' does not train them: --mode full"),
        ({"idle": 0.5, "network": "resnet18"}, "is for network vit, not for 'resnet18'"),
    ],
)
def test_settings_of_idle_units_that_make_no_sense_are_refused(fields, words):
    with pytest.raises(UserError) as refused:
        idle_architecture(ARCH, Finetune(**fields))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        (replace(ARCH, gated_mlp=True, activation="silu"), "not for gated MLPs"),
        (replace(ARCH, mlp_norm=True), "a norm of their hidden units"),
        (IDLE, "the encoder has idle units already"),
    ],
)
def test_networks_that_can_have_no_idle_units_are_refused(arch, words):
    with pytest.raises(UserError, match=words):
        idle_architecture(arch, Finetune(idle=0.5))


def test_an_encoder_folder_with_sizes_per_block_is_read_again_and_trained_by_lora(tmp_path):
    arch = replace(ARCH, block_hidden=(24, 40), block_heads=(1, 3), mlp_shortcut=True)
    save_encoder(tmp_path, shaken(arch), card_of(arch))
    vit, card = open_vit(tmp_path)
    assert card.arch == arch and "fewer attention heads" in card.description()
    x = pixels(arch)
    wanted = shaken(arch)(x).patches
    torch.testing.assert_close(vit(x).patches, wanted)
    add_lora(vit, 2, 2)
    vit(x).patches.sum().backward()
    assert vit.blocks[0].attn.qkv.lora_B["default"].weight.grad.abs().sum() > 0
    torch.testing.assert_close(merge_lora(vit)(x).patches, wanted)


def trained(small_recipes, cohort, tmp_path, name="run", **fields):
    recipe = replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=4), **fields)
    data = tmp_path / "data" / "manifest.csv"
    data = data if data.is_file() else cohort(patients=20)
    return recipe, data, finetune(recipe, read_manifest(data), tmp_path / name, tmp_path / "cache")


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_model_with_idle_units_is_trained_stored_and_merged(small_recipes, cohort, tmp_path, capsys, norm):
    recipe, _, folder = trained(small_recipes, cohort, tmp_path, idle=0.75, idle_norm=norm)
    network, card = load_model(folder)
    said = "chosen on 24 training cases" in capsys.readouterr().out
    assert said == (norm == "layer")
    assert card.arch.block_active == (128,) * recipe.model.architecture().depth
    assert card.arch.mlp_batch_norm == (norm == "batch")
    merged, small = merge_idle(network, card)
    x = torch.randn(4, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(merged(x), network(x), atol=1e-5, rtol=1e-4)
    assert small.arch.mlp_shortcut and build_model(small).state_dict().keys() == merged.state_dict().keys()
    with pytest.raises(UserError, match="idle units already"):
        idle_architecture(small.arch, recipe)


def test_an_interrupted_run_with_idle_units_goes_on_as_if_nothing_had_been(
    small_recipes, cohort, tmp_path, monkeypatch
):
    fields = {"idle": 0.5, "idle_ramp": 0.9}
    recipe, data, whole = trained(small_recipes, cohort, tmp_path, "whole", **fields)
    steps, loss = itertools.count(), FineTuning.loss

    def stopping(self, batch):
        if next(steps) == 2:
            raise KeyboardInterrupt
        return loss(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "loss", stopping)
        with pytest.raises(KeyboardInterrupt):
            finetune(recipe, read_manifest(data), tmp_path / "broken", tmp_path / "cache")
    assert (tmp_path / "broken" / LAST).is_file()
    finetune(recipe, read_manifest(data), tmp_path / "broken", tmp_path / "cache")
    one, two = (read_predictions(tmp_path / name / "predictions.csv") for name in ("whole", "broken"))
    np.testing.assert_array_equal(one.scores(), two.scores())
    assert load_card(whole).arch == load_card(tmp_path / "broken" / "model").arch
