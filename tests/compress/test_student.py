"""The training of a smaller network: its recipe is that of the model, its beginning what is left of the model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from clinvit.backbone.sizes import architecture
from clinvit.compress.student import Continued, student_recipe
from clinvit.compress.variants import METHODS, Variant, start_of, variants_of
from clinvit.engine.recipe import Optim
from clinvit.finetune.distil_recipe import Distil, distilling
from clinvit.finetune.model import ModelCard, build_model
from clinvit.finetune.recipe import Finetune, View

ARCH = architecture("mini", image_size=(32, 32), patch_size=8)
CARD = ModelCard(
    ("A", "B"), {}, False, "full", "vit", "mean", ARCH, (0.5,), (0.25,), View("squash", None), 40,
)  # fmt: skip


@pytest.mark.parametrize("epochs", [1, 4, 30])
def test_the_recipe_keeps_the_last_epoch_and_what_the_model_was_trained_by(epochs):
    model = Finetune(mode="lora", lora_rank=4, mixup=0.2, patch_drop=0.3, optim=Optim(epochs=90, layer_decay=0.7))
    recipe = student_recipe(model, Variant("x", idle=0.5), ARCH, epochs)
    assert isinstance(recipe, Distil) and recipe.mode == "full" and recipe.lora_rank is None
    assert (recipe.select, recipe.optim.epochs, recipe.idle) == ("last", epochs, 0.5)
    assert recipe.optim.warmup_epochs < epochs and recipe.views == min(8, epochs)
    assert recipe.optim.layer_decay == 0.7 and recipe.patch_drop == 0.3 and recipe.mixup == 0
    taught = student_recipe(replace(distilling(Finetune())[0], temperature=3.0), Variant("x"), ARCH, epochs)
    assert taught.temperature == 3.0


def test_a_smaller_size_is_trained_as_it_was_measured():
    (size,) = {one.size for one in variants_of(CARD, METHODS)} - {""}
    variant = Variant(size, size=size)
    network, card = start_of(variant, build_model(CARD), CARD)
    fields = replace(Finetune().model, image_size=32, patch_size=16)  # the encoder had other patches
    recipe = student_recipe(Finetune(model=fields, optim=Optim(layer_decay=0.7)), variant, card.arch, 3)
    assert size == "micro" and recipe.model.architecture() == card.arch and recipe.optim.layer_decay == 1
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 2)


def test_a_student_begins_with_the_pruned_network_and_its_head():
    torch.manual_seed(0)
    start, card = start_of(Variant("x", heads=0.5, hidden=0.5), build_model(CARD).eval(), CARD)
    recipe = replace(student_recipe(Finetune(), Variant("x", heads=0.5), card.arch, 2), beta=0.0)
    model = build_model(card)
    Continued(recipe, [], Path("none"), start).teach(model, card)
    x = torch.randn(3, 1, 32, 32)
    torch.testing.assert_close(model.eval()(x), start(x))
    assert sum(card.arch.block_heads) == 9 and sum(card.arch.block_hidden) == 6 * 4 * 192 // 2
