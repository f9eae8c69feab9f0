"""Ways of adapting: only what is meant to move moves, merged updates give the same, what does not apply is refused."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.engine.training import Training
from clinvit.finetune.adaptation import adapt, merge_lora
from clinvit.finetune.losses import masked_bce
from clinvit.finetune.model import build_model, load_card, load_model
from clinvit.finetune.new_card import make_card
from clinvit.finetune.recipe import Finetune
from clinvit.finetune.run import finetune
from clinvit.finetune.training import FineTuning
from clinvit.phantoms.radiographs import write_chestxray14

# Fields of the recipe, and the names of the parameters that move; the micro encoder has four blocks.
NEW = r"fc_norm\.(weight|bias)|head\.(weight|bias)"
POOL = r"attention_pool\..*"
WAYS = {
    "full": ({}, rf"encoder\..*|{NEW}"),
    "linear": ({}, r"head\.(weight|bias)"),
    "attentive": ({"pool": "attention"}, rf"{POOL}|{NEW}"),
    "norm": ({}, rf"encoder\.blocks\.\d\.norm[12]\.(weight|bias)|{NEW}"),
    "bitfit": ({}, rf"encoder\..*\.bias|{NEW}"),
    "lora": ({"lora_rank": 2}, rf"encoder\.blocks\.\d\.attn\.(qkv|proj)\.lora_[AB]\.default\.weight|{NEW}"),
    "last_blocks": ({"last_blocks": 2}, rf"encoder\.blocks\.[23]\..*|{NEW}"),
}


@pytest.fixture
def encoder(small_recipes, tmp_path):
    """An encoder folder, weights random."""
    return written(small_recipes[1], tmp_path / "encoder")


def written(recipe: Finetune, folder):
    torch.manual_seed(3)
    arch = recipe.model.architecture()
    return save_encoder(folder, ViT(arch), EncoderCard(arch, (0.5,), (0.25,), method="mae"))


def way(recipe: Finetune, mode: str, **fields) -> Finetune:
    return replace(recipe, mode=mode, **(WAYS[mode][0] | fields))


def adapted(recipe: Finetune, manifest):
    """The model of a recipe as it goes into training, as if from an encoder."""
    start = EncoderCard(recipe.model.architecture(), (0.5,), (0.25,))
    card = make_card(recipe, manifest, start)
    torch.manual_seed(0)
    model = build_model(card, recipe.model.drop_path)
    return model, card, adapt(model, recipe)


def steps(model, card, recipe, draws) -> None:
    """Two optimiser steps by the engine's own groups."""
    training = FineTuning(model, recipe, card, None, None, [], None)
    training._trainer = Steps()
    optimizer = training.configure_optimizers()["optimizer"]
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    for images, target in draws:
        optimizer.zero_grad()
        masked_bce(model(images), target).backward()
        optimizer.step()
        if training.ema is not None:
            training.ema.update(model, step=1)


class Steps:
    """As much of Lightning's Trainer as the optimiser asks for."""

    estimated_stepping_batches, precision = 100, "32-true"


def draws(recipe: Finetune):
    frames = () if recipe.model.frames == 1 else (recipe.model.frames,)
    torch.manual_seed(1)
    shape = (8, 1, *frames, recipe.model.image_size, recipe.model.image_size)
    return [(torch.randn(shape), torch.randint(0, 2, (8, 2)).float()) for _ in range(2)]


@pytest.mark.parametrize("frames", [1, 16])
@pytest.mark.parametrize("mode", WAYS)
def test_only_what_is_meant_to_move_moves(cohort, small_recipes, mode, frames):
    recipe = way(small_recipes[1], mode, optim=replace(small_recipes[1].optim, ema_decay=0.5))
    if frames > 1:
        clips = replace(recipe.model, frames=frames, tubelet=2, class_token=False, positions="sine3d")
        recipe = replace(recipe, model=clips, data=replace(recipe.data, clip=replace(recipe.data.clip, stride=1)))
    model, card, (trained, total) = adapted(recipe, read_manifest(cohort(patients=5)))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    steps(model, card, recipe, draws(recipe))
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    meant = {name for name in before if re.fullmatch(WAYS[mode][1], name)}
    if frames > 1:
        meant -= {"encoder.pos_embed"}  # those of clips stay as they are, as in VideoMAE
    assert moved == meant
    assert trained == sum(before[name].numel() for name in moved) and total == sum(t.numel() for t in before.values())


@pytest.mark.parametrize("mode", [mode for mode in WAYS if mode != "full"])
def test_what_is_frozen_drops_nothing(cohort, small_recipes, mode):
    recipe = way(small_recipes[1], mode, model=replace(small_recipes[1].model, drop_path=0.9))
    model, _, _ = adapted(recipe, read_manifest(cohort(patients=5)))
    learning = {"linear": 0, "attentive": 0, "last_blocks": 2}.get(mode, 4)
    for _ in range(2):  # an epoch of validation lies between
        assert [block.training for block in model.encoder.blocks] == [False] * (4 - learning) + [True] * learning
        model.eval()
        assert not any(block.training for block in model.encoder.blocks)
        model.train()


def test_merged_updates_give_the_same(cohort, small_recipes):
    recipe = way(small_recipes[1], "lora", lora_alpha=6.0)
    model, card, _ = adapted(recipe, read_manifest(cohort(patients=5)))
    plain = build_model(card)
    images = draws(recipe)[0][0]
    start = model.eval()(images).detach()
    steps(model.train(), card, recipe, draws(recipe))
    assert all(layer.scaling["default"] == 3 for layer in model.modules() if hasattr(layer, "lora_A"))
    with torch.no_grad():
        expected = model.eval()(images)
        merged = merge_lora(model)(images)
    assert not torch.allclose(expected, start, atol=1e-2)
    torch.testing.assert_close(merged, expected, atol=1e-5, rtol=1e-5)
    plain.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), merged)


def test_layer_decay_reaches_the_updates(cohort, small_recipes):
    recipe = way(small_recipes[1], "lora")
    model, card, _ = adapted(recipe, read_manifest(cohort(patients=5)))
    training = FineTuning(model, recipe, card, None, None, [], None)
    training._trainer = Steps()
    groups = training.configure_optimizers()["optimizer"].param_groups
    found = {parameter: group for group in groups for parameter in group["params"]}
    first, last = (found[model.encoder.blocks[i].attn.qkv.lora_A["default"].weight] for i in (0, 3))
    assert (first["lr_scale"], last["lr_scale"]) == pytest.approx((0.8**4, 0.8)) and last["weight_decay"] == 0.05


def short(recipe: Finetune, mode: str, **fields) -> Finetune:
    return way(recipe, mode, **fields, optim=replace(recipe.optim, epochs=3))


def test_a_model_of_updates_is_whole_without_peft(
    cohort, encoder, small_recipes, tmp_path, monkeypatch, capsys
):  # fmt: skip
    manifest = read_manifest(cohort())
    recipe = short(small_recipes[1], "lora", select="last")
    found = []
    monkeypatch.setattr(
        "clinvit.finetune.run.merge_lora", lambda model: found.append(_logits(model)) or merge_lora(model)
    )
    folder = finetune(recipe, manifest, tmp_path / "run", tmp_path / "cache", encoder)
    assert re.search(r"mode lora: 6,658 of 8\d\d,\d+ parameters are trained \(0\.8\d%\)", capsys.readouterr().out)
    assert load_card(folder).parameters["trained"] == 4 * 2 * (128 + 384 + 128 + 128) + 2 * 128 + 2 * 129
    monkeypatch.setitem(sys.modules, "peft", None)
    model, _ = load_model(folder)
    torch.testing.assert_close(_logits(model), found[0], atol=1e-5, rtol=1e-4)
    start = safetensors.torch.load_file(encoder / "encoder.safetensors")
    state = {name: weight.cpu() for name, weight in model.encoder.state_dict().items()}
    changed = {name for name in state if not torch.equal(state[name], start[name])}
    assert changed == {f"blocks.{i}.attn.{part}.weight" for i in range(4) for part in ("qkv", "proj")}
    with pytest.raises(UserError, match=r"needs peft: pip install 'clinvit\[lora\]'"):
        finetune(recipe, manifest, tmp_path / "second", tmp_path / "cache", encoder)
    assert not (tmp_path / "second").exists()


@torch.no_grad()
def _logits(model):
    device = next(model.parameters()).device
    return model.eval()(torch.linspace(-1, 1, 2 * 32 * 32, device=device).view(2, 1, 32, 32)).cpu()


def test_the_best_epoch_of_updates_is_merged(cohort, encoder, small_recipes, tmp_path):
    """With a moving average, which is what is kept, and the same predictions from the folder as in validation."""
    recipe = short(small_recipes[1], "lora")
    recipe = replace(recipe, optim=replace(recipe.optim, ema_decay=0.8))
    folder = finetune(recipe, read_manifest(cohort()), tmp_path / "run", tmp_path / "cache", encoder)
    best = safetensors.torch.load_file(tmp_path / "run/checkpoints/best.safetensors")
    qkv = "encoder.blocks.1.attn.qkv."
    up, down = best[f"{qkv}lora_B.default.weight"], best[f"{qkv}lora_A.default.weight"]
    written = safetensors.torch.load_file(folder / "model.safetensors")
    torch.testing.assert_close(written[f"{qkv}weight"], best[f"{qkv}base_layer.weight"] + up @ down)


def test_clips_adapt_too(clip_cohort, small_clip_recipes, tmp_path):
    encoder = written(small_clip_recipes[1], tmp_path / "encoder")
    recipe = short(small_clip_recipes[1], "lora", patch_drop=0.3)
    folder = finetune(recipe, read_manifest(clip_cohort(20)), tmp_path / "run", tmp_path / "cache", encoder)
    assert load_model(folder)[1].mode == "lora"


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"mode": "norm", "network": "resnet18"}, "mode 'norm' keeps weights of an encoder"),
        ({"mode": "norm", "network": "own"}, "network 'own' is trained whole .*mode 'norm' is for vit and networks of"),
        ({"mode": "last_blocks", "last_blocks": 2, "network": "resnet18"}, "mode 'last_blocks' is for vit; of network"),
        ({"mode": "attentive"}, "mode 'attentive' trains the pooling: set --pool attention, not 'mean'"),
        ({"mode": "linear", "pool": "attention"}, "--mode attentive trains pool 'attention' too"),
        ({"mode": "lora"}, "mode 'lora' needs --lora_rank, 1 to 128 with this encoder, not None"),
        ({"mode": "lora", "lora_rank": 129}, "--lora_rank, 1 to 128 with this encoder, not 129"),
        ({"mode": "lora", "lora_rank": 2, "lora_alpha": 0.0}, "lora_alpha 0 is out of range: a number above 0"),
        ({"mode": "last_blocks"}, "mode 'last_blocks' needs --last_blocks, 1 to 4 with this encoder, not None"),
        ({"mode": "last_blocks", "last_blocks": 5}, "1 to 4 with this encoder, not 5"),
        ({"mode": "norm", "last_blocks": 2}, "last_blocks 2 is for mode 'last_blocks', not 'norm'"),
        ({"lora_rank": 4}, "lora_rank 4 is for mode 'lora', not 'full'"),
        ({"mode": "bitfit", "lora_alpha": 4.0}, "lora_alpha 4 is for mode 'lora', not 'bitfit'"),
    ],
)
def test_what_does_not_apply_is_refused(cohort, small_recipes, encoder, tmp_path, fields, words):
    network = fields.get("network", "vit")
    start = None if network != "vit" else encoder
    with pytest.raises(UserError, match=words):
        finetune(
            replace(small_recipes[1], **fields), read_manifest(cohort(5)), tmp_path / "run", tmp_path / "cache", start
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", [mode for mode in WAYS if mode != "full"])
def test_random_weights_are_not_frozen(cohort, small_recipes, tmp_path, mode):
    with pytest.raises(UserError, match=f"mode '{mode}' keeps weights of an encoder.*give one with --encoder"):
        finetune(way(small_recipes[1], mode), read_manifest(cohort(5)), tmp_path / "run", tmp_path / "cache")


def test_volume_networks_are_trained_whole(clip_cohort, small_clip_recipes, tmp_path):
    recipe = way(small_clip_recipes[1], "bitfit", network="unet3d")
    with pytest.raises(UserError, match=r"network 'unet3d' is trained whole .*mode 'bitfit' is for vit"):
        finetune(recipe, read_manifest(clip_cohort(5)), tmp_path / "run", tmp_path / "cache")


def test_the_command_adapts_on_phantoms(small_recipes, tmp_path, capsys):
    """X-rays in the layout of ChestX-ray14, prepared, fine-tuned and predicted by the command."""
    write_chestxray14(tmp_path / "raw", patients=40, size=64, prevalence={"Effusion": 0.5, "Mass": 0.5})
    data, run = tmp_path / "manifest.csv", tmp_path / "run"
    encoder = written(small_recipes[1], tmp_path / "encoder")
    assert main(["prepare", "thorax", str(tmp_path / "raw"), "--out", str(data)]) == 0
    options = (
        f"--encoder {encoder} --out {run} --mode bitfit --model.size micro --model.image_size 32 --model.patch_size 8 "
        "--model.class_token true --augment.size 32 --data.cache_px 40 --data.labels [Effusion,Mass] "
        "--optim.epochs 2 --optim.warmup_epochs 1"
    )
    assert main(["finetune", "thorax", "--data", str(data), *options.split()]) == 0
    model, card = load_model(run / "model")
    trained = f"mode bitfit: {card.parameters['trained']:,} of {card.parameters['total']:,} parameters are trained"
    assert trained in capsys.readouterr().out and card.mode == "bitfit"
    start = safetensors.torch.load_file(encoder / "encoder.safetensors")
    kept = {name: torch.equal(weight.cpu(), start[name]) for name, weight in model.encoder.state_dict().items()}
    assert all(kept[name] != name.endswith(".bias") for name in kept)
    scores = tmp_path / "p.csv"
    assert main(["predict", "thorax", str(data), "--model", str(run / "model"), "--out", str(scores)]) == 0
    assert not len(read_predictions(scores).failed())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["lora", "attentive"])
def test_an_interrupted_run_goes_on_exactly(cohort, encoder, small_recipes, tmp_path, monkeypatch, mode):
    manifest, recipe = read_manifest(cohort()), short(small_recipes[1], mode, mixup=0.4, patch_drop=0.3)
    recipe = replace(
        recipe, model=replace(recipe.model, drop_path=0.3), optim=replace(recipe.optim, epochs=4, ema_decay=0.9)
    )
    finetune(recipe, manifest, tmp_path / "whole", tmp_path / "cache", encoder)
    step = Training.training_step

    def dying(self, data, index):
        if (self.current_epoch, index) == (2, 1):
            raise InterruptedError
        return step(self, data, index)

    monkeypatch.setattr(Training, "training_step", dying)
    with pytest.raises(InterruptedError):
        finetune(recipe, manifest, tmp_path / "cut", tmp_path / "cache", encoder)
    assert (tmp_path / "cut/checkpoints/last.ckpt").is_file() and not (tmp_path / "cut/model").exists()
    monkeypatch.setattr(Training, "training_step", step)
    finetune(recipe, manifest, tmp_path / "cut", tmp_path / "cache", encoder)
    weights = "model/model.safetensors"
    assert (tmp_path / "whole" / weights).read_bytes() == (tmp_path / "cut" / weights).read_bytes()
    assert (tmp_path / "whole/predictions.csv").read_bytes() == (tmp_path / "cut/predictions.csv").read_bytes()


@pytest.mark.thorough
def test_two_processes_equal_one(cohort, encoder, tmp_path):
    """In float64: in float32 AdamW makes full steps of gradients that are rounding alone."""
    script = tmp_path / "start.py"
    script.write_text("import sys\nfrom clinvit.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n")
    options = (
        f"--data {cohort()} --encoder {encoder} --mode lora --lora_rank 2 --select last --run.precision 64-true "
        "--model.size micro --model.image_size 32 --model.patch_size 8 --model.class_token true --augment.size 32 "
        "--data.cache_px 40 --patch_drop 0 --model.drop_path 0 --optim.epochs 2 --optim.warmup_epochs 1"
    )
    for devices in (1, 2):
        own = f"--out {tmp_path}/d{devices}/run --run.devices {devices} {options}"
        subprocess.run([sys.executable, script, "finetune", "thorax", *own.split()], check=True, timeout=300)
    one, two = (safetensors.torch.load_file(tmp_path / f"d{n}/run/model/model.safetensors") for n in (1, 2))
    assert {weight.dtype for weight in one.values()} == {torch.float64}
    start = safetensors.torch.load_file(encoder / "encoder.safetensors")
    name = "blocks.3.attn.qkv.weight"
    assert not torch.equal(one[f"encoder.{name}"], start[name].double())
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-10, rtol=0)
