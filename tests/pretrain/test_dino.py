"""DINO's parts against the official implementation, and what their formulas promise."""

import math

import pytest
import torch
from clinvit.backbone.positions import resize_positions
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.pretrain.dino import DinoLoss, DinoNetwork, follow, teacher_temperature
from clinvit.pretrain.recipe import Head

ARCH = Architecture(
    48, 2, 3, image_size=(32, 32), patch_size=8, channels=3, positions="learned", resize_offset=0.1
)  # fmt: skip
SMALL = Head(out_dim=64, hidden=32, bottleneck=16)


@pytest.fixture
def official(golden):
    """The official network's numbers, and ours with its weights."""
    reference = golden("dino_vit")
    network = DinoNetwork(ViT(ARCH), SMALL).eval()
    names = {name.replace("backbone.", "encoder."): value for name, value in reference.state.items()}
    network.load_state_dict(names, strict=True)
    return reference, network


@torch.no_grad()
def test_network_equals_the_official_one(official):
    reference, network = official
    close = {"atol": 1e-5, "rtol": 1e-5}
    images, local = reference.inputs["images"], reference.inputs["local_crops"]
    torch.testing.assert_close(network.encoder(images).cls, reference.outputs["cls"], **close)
    torch.testing.assert_close(network.encoder(local).cls, reference.outputs["cls_local"], **close)
    torch.testing.assert_close(network.encoder.last_attention(images), reference.outputs["last_attention"], **close)
    for i, tokens in enumerate(network.encoder.last_layers(images, 2)):
        torch.testing.assert_close(tokens.sequence(), reference.outputs[f"intermediate_{i}"], **close)
    views = network([images, local])
    torch.testing.assert_close(views.logits[:2], reference.outputs["head"], **close)
    torch.testing.assert_close(
        views.cls, torch.cat([reference.outputs[name] for name in ("cls", "cls_local")]), **close
    )


@torch.no_grad()
def test_the_offset_of_the_positions_is_what_parity_needs(official):
    network = official[1]
    table = network.encoder.pos_embed[0, 1:]
    plain, official_way = (resize_positions(table, (1, 4, 4), (1, 3, 3), offset) for offset in (0.0, 0.1))
    assert official_way.shape == plain.shape and (plain - official_way).abs().max() > 1e-3
    assert resize_positions(table, (1, 14, 14), (1, 14, 14), 0.1) is table


def test_loss_and_centre_equal_the_official_ones(golden):
    reference = golden("dino_loss")
    meta = reference.meta
    loss = DinoLoss(meta["out_dim"], meta["student_temp"], meta["center_momentum"])
    student, teacher = reference.inputs["student"], reference.inputs["teacher"]
    for epoch in range(3):
        temperature = teacher_temperature(
            epoch, meta["warmup_teacher_temp"], meta["teacher_temp"], meta["warmup_teacher_temp_epochs"]
        )
        value = loss(student, loss.targets(teacher, temperature))
        torch.testing.assert_close(value, reference.outputs[f"loss_epoch{epoch}"], atol=1e-5, rtol=1e-6)
        loss.update_centre(teacher.mean(dim=0, keepdim=True))
    torch.testing.assert_close(loss.center, reference.outputs["center_after"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("crops", [2, 3, 10])
def test_loss_is_the_mean_cross_entropy_of_pairs_that_differ(crops):
    torch.manual_seed(crops)
    student, teacher = torch.randn(crops * 5, 11), torch.randn(10, 11)
    loss = DinoLoss(11, 0.1, 0.9)
    loss.center.normal_()
    said = (student / 0.1).log_softmax(-1).chunk(crops)
    wanted = ((teacher - loss.center) / 0.05).softmax(-1).chunk(2)
    pairs = [-(q * p).sum(-1).mean() for i, q in enumerate(wanted) for j, p in enumerate(said) if i != j]
    value = loss(student, loss.targets(teacher, 0.05))
    torch.testing.assert_close(value, torch.stack(pairs).mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "epoch, warm, final, warmup, expected",
    [
        (0, 0.04, 0.07, 3, 0.04), (1, 0.04, 0.07, 3, 0.055), (2, 0.04, 0.07, 3, 0.07), (7.5, 0.04, 0.07, 3, 0.07),
        (0.5, 0.04, 0.07, 3, 0.0475), (0, 0.04, 0.06, 0, 0.06), (0.9, 0.04, 0.06, 1, 0.04), (1, 0.04, 0.06, 1, 0.06),
    ],
)  # fmt: skip
def test_temperature_of_the_teacher(epoch, warm, final, warmup, expected):
    assert teacher_temperature(epoch, warm, final, warmup) == pytest.approx(expected)


@pytest.mark.parametrize("fixed", [True, False])
def test_prototypes_have_unit_length_until_they_may_learn_it(fixed):
    torch.manual_seed(0)
    head = DinoNetwork(ViT(ARCH), Head(64, 32, 16, norm_last_layer=fixed)).head
    assert head.last_layer.weight_g.requires_grad is not fixed
    x = torch.randn(4, 48)
    with torch.no_grad():
        head.last_layer.weight_v.mul_(7.0)  # a direction has no length
    assert head(x).abs().max() <= 1 + 1e-6
    theirs = torch.nn.utils.weight_norm(torch.nn.Linear(16, 64, bias=False))
    theirs.load_state_dict(head.last_layer.state_dict())
    unit = torch.nn.functional.normalize(head.mlp(x), dim=-1)
    torch.testing.assert_close(head(x), theirs(unit))


def test_the_teacher_follows_by_its_momentum():
    student, teacher = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    before = teacher.weight.detach().clone()
    follow(teacher, student, 0.75)
    torch.testing.assert_close(teacher.weight, 0.75 * before + 0.25 * student.weight)
    before = teacher.bias.detach().clone()
    follow(teacher, student, 1.0)
    assert torch.equal(teacher.bias, before)


def test_the_start_is_dinos():
    torch.manual_seed(0)
    network = DinoNetwork(ViT(Architecture(192, 2, 3, channels=3, positions="learned")), SMALL)
    for weight in (network.encoder.blocks[1].mlp.fc1.weight, network.head.mlp[0].weight, network.encoder.pos_embed):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    # PyTorch's own start of the projection: uniform within 1 / sqrt(values of a patch).
    assert network.encoder.patch_embed.proj.weight.abs().max().item() == pytest.approx(1 / math.sqrt(768), rel=0.01)


def test_without_class_token_it_is_refused():
    arch = Architecture(48, 1, 3, image_size=(32, 32), patch_size=8, class_token=False)
    with pytest.raises(ValueError, match="class_token true"):
        DinoNetwork(ViT(arch), SMALL)
