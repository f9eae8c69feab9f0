"""The one base of all cards: values come back typed, kinds are kept apart, what is damaged is named."""

import json
from dataclasses import replace

import pytest
import torch
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.encoder import save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.core.errors import UserError
from clinvit.finetune.model import ModelCard, build_model, load_card, load_model, save_model
from clinvit.finetune.recipe import View
from clinvit.mil.cards import load_any_card, load_any_model
from clinvit.mil.model import MilCard, load_mil_card, save_mil

ARCH = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8)
ENCODER = EncoderCard(ARCH, (0.5,), (0.25,), "mae", {"rate": 1e-3}, {"cases": 7})
MODEL = ModelCard(("a", "b"), {}, False, "full", "vit", "mean", ARCH, (0.5,), (0.25,), View("squash", None), 40)
MIL = MilCard(("tumour",), {}, False, "mean", 8, None, "bag", 8)


@pytest.fixture
def folders(tmp_path):
    torch.manual_seed(0)
    save_encoder(tmp_path / "encoder", ViT(ARCH), ENCODER)
    save_model(tmp_path / "model", build_model(MODEL), replace(MODEL, encoder=ENCODER.to_dict()))
    save_mil(tmp_path / "mil", MIL.network(), MIL)
    return tmp_path


@pytest.mark.parametrize("card", [ENCODER, MODEL, MIL], ids=["encoder", "model", "mil"])
def test_values_come_back_as_they_were(card):
    assert type(card).from_dict(json.loads(json.dumps(card.to_dict()))) == card


def test_the_kind_decides_what_is_opened(folders):
    for name, card in (("model", MODEL), ("mil", MIL)):
        network, found = load_any_model(folders / name)
        assert type(found) is type(card) and found.labels == card.labels and not network.training
        assert found.unit == {"model": "image", "mil": "slide"}[name]


def test_a_card_without_a_kind_is_what_its_file_is_called_after(folders):
    for path in (folders / "model/model.json", folders / "encoder/encoder.json"):
        values = json.loads(path.read_text())
        del values["kind"]
        path.write_text(json.dumps(values))
    assert load_any_card(folders / "model").labels == ("a", "b")
    assert EncoderCard.read(folders / "encoder") == ENCODER


def test_a_card_of_another_kind_is_named_as_such(folders):
    with pytest.raises(UserError, match=r"model\.json: not a model of bags"):
        load_mil_card(folders / "model")
    with pytest.raises(UserError, match=r"model\.json: not a model of images or clips"):
        load_card(folders / "mil")
    with pytest.raises(UserError, match=r"no encoder\.json in it: not an encoder folder"):
        EncoderCard.read(folders / "mil")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"arch": None}, "not a readable card"),
        ({"labels": 3}, "not a readable card"),
        ({"arch": ARCH.to_dict() | {"width": 4096, "depth": 64}}, "its card has"),
        ({"sha256": "0"}, "damaged or replaced"),
        ({"labels": ["a"]}, "do not fit the card"),
    ],
)
def test_a_damaged_card_is_one_line(folders, change, words):
    path = folders / "model/model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=words) as caught:
        load_model(folders / "model")
    assert "\n" not in str(caught.value)
