"""The stem of convolutions: nothing at first, of the whole image, trained beside an encoder's weights."""

from dataclasses import replace

import pytest
import torch
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.encoder import load_encoder, open_vit, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.core.errors import UserError
from clinvit.engine.optim import layer_of

PLAIN = Architecture(width=48, depth=2, heads=3, image_size=(32, 32), patch_size=8, class_token=False)
STEMMED = replace(PLAIN, stem=True)


@pytest.fixture
def encoder(tmp_path):
    """The folder of a plain encoder."""
    torch.manual_seed(0)
    return save_encoder(tmp_path / "encoder", ViT(PLAIN), EncoderCard(PLAIN, (0.5,), (0.25,), "mae"))


def test_an_encoder_gives_the_same_tokens_with_a_new_stem(encoder):
    plain, _ = open_vit(encoder)
    stemmed = ViT(STEMMED)
    report = load_encoder(stemmed, encoder)
    assert "the stem of convolutions is new" in str(report)
    images = torch.randn(3, 1, 32, 32)
    for ids in (None, torch.tensor([[0, 5], [3, 1], [15, 2]])):
        torch.testing.assert_close(stemmed.eval()(images, ids).patches, plain(images, ids).patches)


def test_every_weight_of_the_stem_is_trained_after_a_step_at_the_rate_of_the_head():
    torch.manual_seed(0)
    vit, images = ViT(STEMMED), torch.randn(4, 1, 32, 32)
    optimiser = torch.optim.SGD(vit.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        vit(images, torch.arange(8).expand(4, -1)).patches[..., 0].sum().backward()
        optimiser.step()
    for name, parameter in vit.stem.named_parameters(prefix="stem"):
        assert parameter.grad.abs().sum() > 0, name
        assert layer_of(name, depth=2) == 3


def test_tokens_that_are_left_out_change_no_other_tokens_stem():
    torch.manual_seed(0)
    stem, images = ViT(STEMMED).stem.eval(), torch.randn(2, 1, 1, 32, 32)
    torch.nn.init.normal_(stem.layers[-1].weight)
    ids = torch.tensor([[7, 0, 9], [2, 3, 15]])
    whole = stem(images)
    assert whole.shape == (2, 16, 48) and whole.std() > 0
    torch.testing.assert_close(stem(images, ids), torch.stack([whole[0, ids[0]], whole[1, ids[1]]]))


def test_a_stem_is_kept_in_the_folder_and_loads_into_nothing_without_one(tmp_path):
    torch.manual_seed(0)
    vit = ViT(STEMMED).eval()
    torch.nn.init.normal_(vit.stem.layers[-1].weight)
    folder = save_encoder(tmp_path / "stemmed", vit, EncoderCard(STEMMED, (0.5,), (0.25,), "mae"))
    again, card = open_vit(folder)
    images = torch.randn(2, 1, 32, 32)
    assert card.arch.stem and "a stem of convolutions" in card.description()
    torch.testing.assert_close(again(images).patches, vit(images).patches)
    with pytest.raises(UserError, match="the checkpoint has stem"):
        load_encoder(ViT(PLAIN), folder)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"patch_size": 14, "image_size": (28, 28)}, "not for patches of 14 px"),
        ({"patch_size": 2}, "not for patches of 2 px"),
        ({"width": 42}, "not for patches of 8 px and width 42"),
        ({"frames": 4, "tubelet": 2, "positions": "sine1d"}, "is for images, not for clips of 4 frames"),
    ],
)
def test_what_can_have_no_stem_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        replace(STEMMED, **fields)
