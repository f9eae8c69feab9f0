"""Tables of smaller and merged networks, measured without the papers' data."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clinvit.cli import main
from clinvit.compress.quantise import calibrate
from clinvit.compress.ranges import best_levels, levels_between
from clinvit.compress.rounded import rounded
from clinvit.stages.reproduce import catalogue, plan, smaller
from clinvit.stages.reproduce.run import Request, reproduce
from clinvit.stages.reproduce.small import Scale
from clinvit.stages.reproduce.smaller import Shape, idle_cost, random_classifier, rounding_error
from clinvit.tasks import all_tasks, load
from clinvit.tasks.thorax import phantoms

MICRO = {"size": "micro", "image_px": 32, "rounds": 1, "labels": 10}


def work(**changes):
    return SimpleNamespace(recipe=Shape(**MICRO | changes))


def test_multiply_adds_are_those_of_the_layers():
    network, card = random_classifier(Shape(**MICRO))
    arch, found = card.arch, idle_cost(work())
    tokens, width = 5, arch.width  # four patches and the class token
    linear = arch.depth * 12 * width**2 * tokens + 4 * width * 3 * arch.patch_size**2 + 10 * width
    norms = 5 * width * (2 * arch.depth * tokens + 1)  # the last one sees the mean of the patches
    assert found["gmacs"] == pytest.approx((linear + norms) / 1e9, rel=1e-9)
    assert found["gmacs_all"] == pytest.approx((linear + arch.depth * 2 * tokens**2 * width) / 1e9, rel=1e-9)
    assert found["parameters"] == sum(each.numel() for each in network.parameters()) / 1e6


def test_merged_units_move_nothing_and_save_their_share():
    plain, merged = idle_cost(work()), idle_cost(work(idle=0.75))
    arch = random_classifier(Shape(**MICRO))[1].arch
    saved = arch.depth * 5 * arch.width**2  # weights of the MLP: 8 D^2 become 3 D^2
    assert merged["moved"] < 1e-5 and merged["speed"].value > 0
    assert plain["parameters"] - merged["parameters"] == pytest.approx(saved / 1e6, rel=0.02)  # biases go too


def test_rounding_is_undone_and_costs_more_with_fewer_bits():
    network, _ = random_classifier(Shape(**MICRO))
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact = network(pixels)
    with rounded(network, calibrate(network, pixels, 4).levels, 4):
        assert (network(pixels) - exact).abs().max() > 1e-3
    torch.testing.assert_close(network(pixels), exact, rtol=0, atol=0)
    found = rounding_error(work())
    assert found["folded"] < 1e-5
    assert found["repq_w4a4"] < found["plain_w4a4"] and found["repq_w6a6"] < found["repq_w4a4"] < 1


def test_a_rounded_layer_is_the_product_of_rounded_numbers():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(6, 3), torch.randn(50, 6)
    levels = best_levels(x.numpy(), 4)
    with torch.inference_mode(), rounded(layer, {"": levels}, 4):
        found = layer(x)
    weight = layer.weight.detach().double().numpy()
    own = levels_between(weight.min(axis=1), weight.max(axis=1), 4).restored(weight.T, 4)
    expected = levels.restored(x.numpy(), 4) @ own + layer.bias.detach().numpy()
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("table", ["images/repavit", "images/repq-vit"])
def test_the_command_measures_beside_what_is_printed(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(smaller, "random_classifier", lambda shape: random_classifier(Shape(idle=shape.idle, **MICRO)))
    name = catalogue.find_table(table, all_tasks())[0].rows[0].name
    assert main(["reproduce", table, "--rows", name, "--out", str(tmp_path)]) == 0
    row = json.loads((tmp_path / table / "table.json").read_text(encoding="utf-8"))["rows"][0]
    assert row["state"] == "done" and "not comparable" in capsys.readouterr().out


@pytest.mark.thorough
def test_sites_are_merged_on_phantoms(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SCALE", Scale(image_px=32, pretrain_epochs=1, finetune_epochs=4))
    table, _ = catalogue.find_table("thorax/merged", all_tasks())
    cohort = phantoms.chestxray14(tmp_path / "cohort", patients=60)
    asked = ("orthogonal", "average")
    few = replace(table, phantoms=lambda folder: cohort)
    _, results = reproduce(Request(few, load("thorax"), tmp_path, phantoms=True, resamples=50, rows=asked))
    found = {each.name: each for each in results if each.name in asked}
    assert {each.state for each in found.values()} == {"done"}, [each.reason for each in found.values()]
    metrics = {name: each.measured.metrics for name, each in found.items()}
    assert metrics["orthogonal"]["distance"].value == pytest.approx(1, abs=1e-5)
    assert metrics["average"]["distance"].value < 1 - 1e-3, "an average is nearer to the start"
    assert metrics["orthogonal"]["alone"] == metrics["average"]["alone"] and "macro_auroc" in metrics["average"]
