"""Pre-training that goes on from an encoder: what is taken, refused, recorded and kept still, by each method."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import safetensors.torch
import torch
from clinvit.backbone.encoder import EncoderCard, open_vit, read_encoder_card, save_encoder
from clinvit.backbone.positions import position_table
from clinvit.backbone.sizes import IMAGENET_STATISTICS, SIZES, Architecture, Model
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.seen import UNKNOWN, case_hash, patient_hash, read_hashes
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.transforms.augment import Augment
from clinvit.datasets.transforms.multi_crop import MultiCrop
from clinvit.engine.recipe import to_yaml
from clinvit.engine.training import Training
from clinvit.pretrain.dino_training import DinoPretraining
from clinvit.pretrain.masked import MaskedPretraining
from clinvit.pretrain.masking import Masks, random_masking
from clinvit.pretrain.recipe import Decoder, Dino, Head, Pretrain, Start
from clinvit.pretrain.run import pretrain
from clinvit.pretrain.start import freeze, open_parent
from clinvit.stages.seen import encoder_sentences, seen_facts, seen_sentences

WEIGHTS = "encoder/encoder.safetensors"


def stored(folder) -> dict:
    return safetensors.torch.load_file(folder / WEIGHTS)


def log(folder) -> pd.Series:
    return pd.read_csv(folder / "log.csv")["loss"]


@pytest.fixture
def dino(small_recipes):
    """DINO on grey images in seconds."""
    pre = small_recipes[0]
    return Dino(
        model=replace(pre.model, positions="learned"), head=Head(64, 32, 16), crops=MultiCrop(2, 16), data=pre.data,
        optim=replace(Dino().optim, epochs=2, warmup_epochs=1, batch_size=16, base_lr=0.005), run=pre.run,
    )  # fmt: skip


def encoder_file(folder, **changes):
    """Write a random encoder that fits the small recipes but for the changes."""
    torch.manual_seed(7)
    arch = replace(Architecture(128, 4, 4, image_size=(32, 32), patch_size=8), **changes)
    return save_encoder(folder, ViT(arch), EncoderCard(arch, (0.4,) * arch.channels, (0.3,) * arch.channels, "mae"))


def through_the_path(method, recipe, path):
    """Return the model as a run builds it from a checkpoint, and what it says of that."""
    model = method.build(recipe, open_parent(path, recipe).arch)
    return model.eval(), method.start_from(model, path)


@pytest.fixture
def golden_size(monkeypatch):
    """A named size with the golden files' width, depth and heads, which the files themselves do not say."""
    monkeypatch.setitem(SIZES, "golden", (48, 2, 3, 4.0))
    return "golden"


@pytest.mark.parametrize("name, target", [("mae_image_norm0", "pixels"), ("mae_image_norm1", "patch")])
def test_a_whole_official_mae_gives_the_official_loss_at_once(golden, golden_size, tmp_path, name, target):
    ref = golden(name)
    torch.save({"model": ref.state}, tmp_path / "mae.pth")
    recipe = Pretrain(
        model=Model(golden_size, 32, 8, channels=3), target=target, decoder=Decoder(32, 1, 2), augment=Augment(32)
    )
    mae, report = through_the_path(MaskedPretraining, recipe, tmp_path / "mae.pth")
    assert report.endswith("decoder: the file's")
    with torch.no_grad():
        out = mae(ref.inputs["images"], Masks(*random_masking(ref.inputs["noise"], ref.meta["mask_ratio"])))
    torch.testing.assert_close(out.loss, ref.outputs["loss"], atol=1e-5, rtol=1e-5)
    _, other = through_the_path(MaskedPretraining, replace(recipe, decoder=Decoder(16, 1, 2)), tmp_path / "mae.pth")
    assert "decoder: new, as the file's is another: mask_token is 1x1x32 there and 1x1x16 here" in other
    _, deeper = through_the_path(MaskedPretraining, replace(recipe, decoder=Decoder(32, 2, 2)), tmp_path / "mae.pth")
    assert "decoder: new, as the file's is another: it has no decoder_blocks.1." in deeper


def test_a_whole_official_videomae_v2_gives_the_official_loss_at_once(golden, golden_size, tmp_path):
    ref = golden("videomae_v2_pretrain")
    torch.save({"model": ref.state}, tmp_path / "videomae.pth")
    recipe = Pretrain(
        model=Model(golden_size, 32, 8, 8, 2, 3, class_token=False, positions="sine1d"), target="channel",
        mask="tube", mask_ratio=0.5, decoder=Decoder(32, 1, 2, embed_bias=False), augment=Augment(32),
    )  # fmt: skip
    mae, report = through_the_path(MaskedPretraining, recipe, tmp_path / "videomae.pth")
    assert report.endswith("decoder: the file's")
    # The file has no positions, so those of the published input were resampled; the golden clip has its own.
    mae.encoder.pos_embed.data = position_table("sine1d", (4, 4, 4), 48)[None]
    hidden, video = ref.inputs["encoder_mask"], ref.inputs["video"]
    visible, target = ((~hidden).nonzero()[:, 1].view(len(hidden), -1), hidden.nonzero()[:, 1].view(len(hidden), -1))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1, 1) for values in IMAGENET_STATISTICS)
    with torch.no_grad():
        out = mae(video, Masks(visible, target), video * std + mean)
    torch.testing.assert_close(out.loss, ref.outputs["full_loss"], atol=1e-5, rtol=1e-5)


def test_a_whole_official_dino_gives_student_and_teacher_its_logits(golden, golden_size, tmp_path):
    ref = golden("dino_vit")
    torch.save({"teacher": {f"module.{name}": value for name, value in ref.state.items()}}, tmp_path / "dino.pth")
    recipe = Dino(
        model=Model(golden_size, 32, 8, channels=3, positions="learned"), head=Head(64, 32, 16), crops=MultiCrop(2, 16)
    )
    student, report = through_the_path(DinoPretraining, recipe, tmp_path / "dino.pth")
    assert report.endswith("head: the file's") and student.encoder.arch.resize_offset == 0.1
    source = SimpleNamespace(ids=[], pixels=None, rows=[])
    training = DinoPretraining(student, recipe, source)
    for network in (training.model, training.teacher):
        with torch.no_grad():
            logits = network.eval()([ref.inputs["images"]]).logits
        torch.testing.assert_close(logits, ref.outputs["head"][: len(logits)], atol=1e-5, rtol=1e-5)


def test_from_data_set_to_data_set_by_the_command(cohort, small_recipes, tmp_path, capsys):
    """What was learned is gone on from; the card names the parent, and the seen cases are those of both data sets."""
    (tmp_path / "recipe.yaml").write_text(to_yaml(small_recipes[0]))
    first, second = cohort(folder="a"), cohort(folder="b", seed=1)
    table = pd.read_csv(second)
    table.assign(id="b" + table["id"], patient="b" + table["patient"]).to_csv(second, index=False)

    def run(data, out, *more):
        arguments = ["thorax", "--data", data, "--out", out, "--config", tmp_path / "recipe.yaml", *more]
        assert main(["pretrain", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    run(first, tmp_path / "one")
    told = run(second, tmp_path / "two", "--encoder", tmp_path / "one/encoder")
    assert "decoder: new, as the file has none" in told and "one/checkpoints/last.ckpt holds its decoder" in told
    whole = run(second, tmp_path / "whole", "--encoder", tmp_path / "one/checkpoints/last.ckpt")
    assert "decoder: the file's" in whole
    run(second, tmp_path / "scratch")
    # Faster from the encoder, faster still with its decoder, and never worse after the same steps.
    assert log(tmp_path / "two").iloc[-1] < log(tmp_path / "scratch").iloc[-1]
    assert (log(tmp_path / "whole") < log(tmp_path / "scratch")).all()

    card = read_encoder_card(tmp_path / "two/encoder")
    parent = card.data["parent"]
    assert card.data["started_from"] == str(tmp_path / "one/encoder") and parent["method"] == "mae"
    assert parent["data"]["cases"] == 48 and len(parent["sha256"]) == 64 and "loaded" in parent["taken"]
    hashes = read_hashes(tmp_path / "two/encoder/trained_on.txt")
    assert {case_hash("000_0"), patient_hash("p0"), case_hash("b000_0"), patient_hash("bp0")} <= hashes
    assert UNKNOWN not in hashes and read_hashes(tmp_path / "whole/encoder/trained_on.txt") == hashes


def test_what_a_checkpoint_of_others_had_seen_is_not_known(cohort, small_recipes, tmp_path):
    """The child's list is not the whole, and nothing is claimed of cases that are not in it."""
    encoder_file(tmp_path / "foreign")
    (tmp_path / "foreign/trained_on.txt").unlink(missing_ok=True)
    manifest = read_manifest(cohort())
    folder = pretrain(small_recipes[0], manifest, tmp_path / "run", tmp_path / "cache", encoder=tmp_path / "foreign")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/pretrained_on.txt").write_bytes((folder / "trained_on.txt").read_bytes())
    for name in ("trained_on.txt", "chosen_on.txt"):
        (tmp_path / "model" / name).write_text((folder / "trained_on.txt").read_text().splitlines()[0] + "\n")
    seen = seen_facts(tmp_path / "model", manifest.rows("test").table)
    assert seen["test"]["pretrained_on"] == 0 and seen["test"]["pretrained_at_least"] is True
    warnings, facts = seen_sentences("test", seen)
    assert not warnings and len(facts) == 2 and "what that had seen is not known" in facts[1]
    assert "was trained on or chosen on" in facts[0] and "seen by the encoder" not in facts[0]
    assert "what that had seen is not known" in encoder_sentences(folder, manifest)[1][0]


def test_an_encoder_of_images_is_inflated_for_clips_and_learns_of_time(
    clip_cohort, small_clip_recipes, small_recipes, cohort, tmp_path
):
    images = encoder_file(tmp_path / "images")
    pre = small_clip_recipes[0]
    model, report = through_the_path(MaskedPretraining, pre, images)
    assert "inflated to tubelets of 2" in report and "class token dropped" in report
    still = torch.randn(2, 1, 1, 32, 32)
    tokens = model.encoder(still.expand(-1, -1, 8, -1, -1)).patches.unflatten(1, (4, 16))
    torch.testing.assert_close(tokens[:, :1].expand_as(tokens), tokens, atol=1e-5, rtol=1e-5)  # times alike at first
    assert model.decoder_pos_embed[0].unique(dim=0).shape[0] == 64  # and none is for the decoder
    folder = pretrain(pre, read_manifest(clip_cohort()), tmp_path / "run", tmp_path / "cache", encoder=images)
    vit, card = open_vit(folder)
    assert card.arch.positions == "learned" and (card.arch.frames, card.mean) == (8, (0.4,))
    times = vit.pos_embed[0].unflatten(0, (4, 16))
    assert (times[0] - times[3]).abs().max() > 1e-4


REFUSED = {
    "another size": ({"width": 192, "heads": 3, "depth": 6}, {}, "size mini.*set model.size mini"),
    "another patch": ({"patch_size": 16}, {}, "patches of 16 px.*set model.patch_size 16"),
    "grey for colour": ({}, {"channels": 3}, "grey images.*in colour.*model.channels 1"),
    "clips for images": ({"frames": 8, "tubelet": 2, "positions": "sine1d"}, {}, "an encoder of clips"),
    "a stem": ({"stem": True}, {}, "a stem of convolutions, which sees masked patches"),
    "no class token": ({"class_token": False}, {}, "without class token: set model.class_token false"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_encoder_of_another_kind_is_refused_before_the_folder_is_claimed(
    cohort, small_recipes, dino, tmp_path, kind
):
    changes, asked, words = REFUSED[kind]
    path = encoder_file(tmp_path / "encoder", **changes)
    manifest = read_manifest(cohort())
    for recipe in (small_recipes[0], dino):
        recipe = replace(recipe, model=replace(recipe.model, **asked))
        with pytest.raises(UserError, match=words) as caught:
            pretrain(recipe, manifest, tmp_path / "run", tmp_path / "cache", encoder=path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_colour_is_folded_for_grey_images_and_the_encoders_statistics_are_used(cohort, small_recipes, tmp_path, capsys):
    path = encoder_file(tmp_path / "encoder", channels=3)
    folder = pretrain(small_recipes[0], read_manifest(cohort()), tmp_path / "run", tmp_path / "cache", encoder=path)
    told = capsys.readouterr().out
    assert "folded to 1 channel" in told and "note: mean (0.4" in told and "of the encoder, as it was trained" in told
    card = read_encoder_card(folder)
    assert card.mean == pytest.approx((0.4,)) and card.recipe["data"]["std"] == pytest.approx([0.3])


def test_the_warm_up_is_short_unless_asked(small_recipes, cohort, tmp_path, capsys):
    path, optim = encoder_file(tmp_path / "encoder"), replace(small_recipes[0].optim, warmup_epochs=3)
    for asked, used in ((1.0, 1.0), (5.0, 3.0)):
        recipe = replace(small_recipes[0], optim=optim, start=Start(warmup_epochs=asked))
        folder = pretrain(
            recipe, read_manifest(cohort(folder=f"d{used}")), tmp_path / f"{used}", tmp_path / "c", encoder=path
        )
        assert read_encoder_card(folder).recipe["optim"]["warmup_epochs"] == used
        assert ("warm-up of 1 epochs instead of 3" in capsys.readouterr().out) == (used == 1.0)


@pytest.mark.parametrize("kind", ["masked", "dino"])
def test_frozen_blocks_stay_and_all_else_moves(cohort, small_recipes, dino, tmp_path, kind):
    recipe = {"masked": small_recipes[0], "dino": dino}[kind]
    path = encoder_file(tmp_path / "encoder", positions="learned")
    recipe = replace(recipe, start=Start(freeze_blocks=2), optim=replace(recipe.optim, epochs=2))
    recipe = replace(recipe, **({"momentum": 0.5} if kind == "dino" else {}))
    pretrain(recipe, read_manifest(cohort()), tmp_path / "run", tmp_path / "cache", encoder=path)
    before, after = safetensors.torch.load_file(path / "encoder.safetensors"), stored(tmp_path / "run")
    still = ("patch_embed.", "cls_token", "pos_embed", "blocks.0.", "blocks.1.")
    for name in before:
        assert torch.equal(before[name], after[name]) == name.startswith(still), name


def test_blocks_are_frozen_only_where_some_are_left_and_not_random(small_recipes):
    vit = ViT(small_recipes[0].model.architecture())
    with pytest.raises(UserError, match="freeze_blocks 2: without an encoder"):
        freeze(vit, replace(small_recipes[0], start=Start(freeze_blocks=2)), None)
    with pytest.raises(UserError, match="the encoder has 4 blocks; leave some"):
        freeze(vit, replace(small_recipes[0], start=Start(freeze_blocks=4)), SimpleNamespace(inflated=False))


def test_old_layers_learn_more_slowly_than_the_fresh_decoder(cohort, small_recipes, tmp_path, monkeypatch):
    rates = {}
    make = Training.configure_optimizers

    def seen(self):
        made = make(self)
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        for group in made["optimizer"].param_groups:
            rates.update({names[id(parameter)]: group["lr_scale"] for parameter in group["params"]})
        return made

    monkeypatch.setattr(Training, "configure_optimizers", seen)
    optim = replace(small_recipes[0].optim, epochs=2, layer_decay=0.5)
    recipe = replace(small_recipes[0], optim=optim, start=Start(freeze_blocks=1))
    path = encoder_file(tmp_path / "encoder")
    pretrain(recipe, read_manifest(cohort()), tmp_path / "run", tmp_path / "cache", encoder=path)
    assert rates["decoder_pred.weight"] == rates["encoder.norm.weight"] == 1
    assert (rates["encoder.blocks.3.mlp.fc1.weight"], rates["encoder.blocks.1.mlp.fc1.weight"]) == (0.5, 0.125)
    assert not any(name.startswith(("encoder.blocks.0.", "encoder.patch_embed")) for name in rates)


@pytest.mark.parametrize("kind", ["masked", "dino"])
def test_resumed_equals_uninterrupted(cohort, small_recipes, dino, tmp_path, monkeypatch, kind):
    recipe = {"masked": small_recipes[0], "dino": dino}[kind]
    recipe = replace(recipe, start=Start(freeze_blocks=1), optim=replace(recipe.optim, layer_decay=0.8, epochs=3))
    path, manifest, step = encoder_file(tmp_path / "encoder"), read_manifest(cohort()), Training.training_step

    def run(out):
        pretrain(recipe, manifest, tmp_path / out, tmp_path / "cache", encoder=path)

    run("whole")

    def dying(self, data, index):
        if (self.current_epoch, index) == (1, 1):
            raise KeyError("killed")
        return step(self, data, index)

    monkeypatch.setattr(Training, "training_step", dying)
    with pytest.raises(KeyError):
        run("cut")
    monkeypatch.setattr(Training, "training_step", step)
    run("cut")
    whole, cut = stored(tmp_path / "whole"), stored(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    path = encoder_file(tmp_path / "other", positions="learned")
    with pytest.raises(UserError, match="holds another run"):
        run("cut")


@pytest.mark.filterwarnings("ignore:the features of all images")  # of a random encoder with layer scale
def test_what_no_recipe_says_is_taken_from_the_encoder(cohort, small_recipes, dino, tmp_path):
    """Registers, layer scale and the resampling of positions, as DINOv2 has them."""
    changes = {"registers": 2, "layer_scale": True, "positions": "learned", "image_size": (48, 48)}
    path = encoder_file(tmp_path / "encoder", **changes)
    for recipe in (small_recipes[0], dino):
        recipe = replace(recipe, optim=replace(recipe.optim, epochs=2))
        name = type(recipe).__name__
        folder = pretrain(recipe, read_manifest(cohort(folder=name)), tmp_path / name, tmp_path / "c", encoder=path)
        arch = read_encoder_card(folder).arch
        assert (arch.registers, arch.layer_scale, arch.positions, arch.image_size) == (2, True, "learned", (32, 32))


def test_the_cost_of_going_on_is_estimated(small_recipes, tmp_path, capsys):
    path = encoder_file(tmp_path / "encoder", layer_scale=True)
    (tmp_path / "recipe.yaml").write_text(to_yaml(replace(small_recipes[0], start=Start(freeze_blocks=2))))
    arguments = ["thorax", "--estimate", "--cases", 48, "--config", tmp_path / "recipe.yaml", "--encoder", path]
    assert main(["pretrain", *map(str, arguments)]) == 0
    assert "48 cases per epoch" in capsys.readouterr().out
    assert main(["pretrain", *map(str, arguments[:-2])]) == 2
    assert "without an encoder to go on from" in capsys.readouterr().err


def test_a_path_that_is_none_is_one_error(cohort, tmp_path, capsys):
    arguments = ["thorax", "--data", cohort(), "--out", tmp_path / "run", "--encoder", tmp_path / "nothing.pth"]
    assert main(["pretrain", *map(str, arguments)]) == 2
    message = capsys.readouterr().err
    assert "nothing.pth" in message and message.count("\n") == 1 and not (tmp_path / "run").exists()
