"""DINO from a manifest to an encoder: schedules, resume, processes, slides, and that it learns without collapse."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from clinvit.backbone.encoder import load_encoder, read_encoder_card
from clinvit.backbone.vit import ViT
from clinvit.core.errors import DataError, RunError, UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.slides.settings import Stain
from clinvit.datasets.transforms.multi_crop import MultiCrop
from clinvit.engine.recipe import Optim, parse_recipe, to_yaml
from clinvit.engine.training import Training
from clinvit.pretrain.dino_training import DinoPretraining
from clinvit.pretrain.neighbours import neighbour_auroc
from clinvit.pretrain.recipe import Dino, Head, Ibot
from clinvit.pretrain.run import pretrain
from PIL import Image

WEIGHTS = "encoder/encoder.safetensors"


@pytest.fixture
def recipe(small_recipes):
    """DINO on grey images in seconds: 48 training cases are three batches."""
    pre = small_recipes[0]
    return Dino(
        model=replace(pre.model, positions="learned", drop_path=0.1),
        head=Head(64, 32, 16),
        crops=MultiCrop(local_crops=2, local_px=16),
        data=pre.data,
        optim=replace(Dino().optim, epochs=4, warmup_epochs=1, batch_size=16, base_lr=0.005),
        run=pre.run,
    )


class Killed(Exception):
    pass


def watch(monkeypatch, look):
    """Call `look(training)` after every batch."""
    end = DinoPretraining.on_train_batch_end

    def seen(self, *arguments):
        end(self, *arguments)
        look(self)

    monkeypatch.setattr(DinoPretraining, "on_train_batch_end", seen)


def equal_files(a: Path, b: Path) -> bool:
    first, second = safetensors.torch.load_file(a), safetensors.torch.load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_encoder_is_the_teacher_and_its_card_says_so(cohort, recipe, tmp_path, precision, monkeypatch):
    kept = {}
    watch(monkeypatch, lambda training: kept.update(teacher=training.teacher, student=training.model))
    recipe = replace(recipe, run=replace(recipe.run, precision=precision), optim=replace(recipe.optim, epochs=2))
    folder = pretrain(recipe, read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")
    card = read_encoder_card(folder)
    assert card.method == "dino" and card.arch.resize_offset == 0.1 and card.data["cases"] == 48
    vit = ViT(card.arch)
    load_encoder(vit, folder)
    for name, value in vit.state_dict().items():
        assert torch.equal(value, kept["teacher"].encoder.state_dict()[name]), name
    assert not torch.equal(vit.blocks[0].mlp.fc1.weight, kept["student"].encoder.blocks[0].mlp.fc1.weight)
    sheet = np.asarray(Image.open(tmp_path / "run/attention.png"))
    assert sheet.ndim == 3 and sheet.std() > 20
    log = pd.read_csv(tmp_path / "run/log.csv")
    assert log[["loss", "teacher_entropy", "centre_norm", "feature_std"]].notna().all(axis=None)


def test_resumed_equals_uninterrupted(cohort, recipe, tmp_path, monkeypatch):
    """Teacher, centre, weight decay and the freezing of the prototypes survive."""
    manifest, step, states = read_manifest(cohort()), Training.training_step, []
    watch(monkeypatch, lambda training: states.append({k: v.clone() for k, v in training.state_dict().items()}))
    pretrain(recipe, manifest, tmp_path / "whole", tmp_path / "cache")
    whole, states[:] = states[-1], []

    def dying(self, data, index):
        if (self.current_epoch, index) == (2, 1):
            raise Killed
        return step(self, data, index)

    monkeypatch.setattr(Training, "training_step", dying)
    with pytest.raises(Killed):
        pretrain(recipe, manifest, tmp_path / "cut", tmp_path / "cache")
    monkeypatch.setattr(Training, "training_step", step)
    pretrain(recipe, manifest, tmp_path / "cut", tmp_path / "cache")
    assert equal_files(tmp_path / "whole" / WEIGHTS, tmp_path / "cut" / WEIGHTS)
    assert all(torch.equal(value, states[-1][name]) for name, value in whole.items())
    assert "dino_loss.center" in whole and whole["dino_loss.center"].abs().max() > 0


@pytest.mark.parametrize("accumulate", [1, 2])
def test_everything_follows_its_schedule_at_every_step(cohort, recipe, tmp_path, monkeypatch, accumulate):
    seen = []

    def look(training):
        groups = training.optimizers().param_groups
        seen.append(
            {
                "step": training.global_step,
                "decay": {g["weight_decay"] for g in groups},
                "prototypes": training.model.head.last_layer.weight_v.detach().clone(),
                "teacher": training.teacher.head.mlp[0].weight.detach().clone(),
                "student": training.model.head.mlp[0].weight.detach().clone(),
            }
        )

    watch(monkeypatch, look)
    recipe = replace(recipe, momentum=0.5, optim=replace(recipe.optim, accumulate=accumulate))
    pretrain(recipe, read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")
    ends = seen[accumulate - 1 :: accumulate]  # after each step of the optimiser
    assert len(ends) == 12
    for i, state in enumerate(ends):
        left = 0.5 * (1 + np.cos(np.pi * i / 12))
        assert state["step"] == i + 1
        assert sorted(state["decay"]) == pytest.approx([0.0, 0.4 + (0.04 - 0.4) * left])
        if i:
            momentum, before = 1 + (0.5 - 1) * left, ends[i - 1]
            followed = momentum * before["teacher"] + (1 - momentum) * state["student"]
            torch.testing.assert_close(state["teacher"], followed)
            still = torch.equal(state["prototypes"], before["prototypes"])
            assert still == (i < 3)  # the first epoch


def test_the_centre_is_that_of_whole_batches(cohort, recipe, tmp_path, monkeypatch):
    """A batch computed in two parts moves the centre once, by the mean of both."""
    centres = {}
    for accumulate in (1, 2):
        found = []
        with monkeypatch.context() as patch:
            watch(patch, lambda training, found=found: found.append(training.dino_loss.center.clone()))
            optim = replace(recipe.optim, accumulate=accumulate, epochs=2, warmup_epochs=0, base_lr=1e-9, min_lr=0.0)
            changed = replace(recipe, optim=optim)
            pretrain(
                changed, read_manifest(cohort(folder=f"d{accumulate}")), tmp_path / f"{accumulate}", tmp_path / "c"
            )
        centres[accumulate] = found[accumulate - 1 :: accumulate]
    for one, two in zip(centres[1], centres[2], strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-4)


def test_a_loss_that_is_not_finite_names_its_cases(cohort, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(DinoPretraining, "loss", lambda self, batch: torch.tensor(np.inf))
    with pytest.raises(RunError, match=r"loss is inf at epoch 0, batch 0; its cases: \d{3}_\d, "):
        pretrain(recipe, read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")


def test_collapse_is_said(cohort, recipe, tmp_path, monkeypatch):
    """An encoder that sees nothing gives every image the same features."""
    monkeypatch.setattr(ViT, "embed", lambda self, x, ids=None: self.cls_token.expand(len(x), 2, -1) + 0 * x.mean())
    monkeypatch.setattr("clinvit.pretrain.dino_training.attention_sheet", lambda *_: np.zeros((8, 8, 3), np.uint8))
    short = replace(recipe, optim=replace(recipe.optim, epochs=1, warmup_epochs=0))
    with pytest.warns(UserWarning, match="DINO has collapsed"):
        pretrain(short, read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")


@pytest.fixture
def gratings(tmp_path):
    """The manifest of 60 noisy gratings: 0 to 60 degrees (label 0) or 90 to 150 (label 1), any phase, 4 to 10 px."""
    rng, rows = np.random.default_rng(0), []
    y, x = np.mgrid[:48, :48]
    for i in range(60):
        angle = np.deg2rad(rng.uniform(0, 60) + 90 * (i % 2))
        wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / rng.uniform(4, 10) + rng.uniform(0, 6.3))
        pixels = 128 + 45 * wave + rng.normal(0, 20, wave.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
        rows.append((str(i), f"{i}.png", f"p{i}", "train", i % 2))
    pd.DataFrame(rows, columns=["id", "path", "patient", "split", "Steep"]).to_csv(tmp_path / "g.csv", index=False)
    return read_manifest(tmp_path / "g.csv")


DINO_V2 = {"centring": "sinkhorn_knopp", "koleo": 0.05, "registers": 2, "ibot": Ibot(weight=0.5, mask_ratio=(0.1, 0.4))}


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(
    "additions", [pytest.param({}, id="dino"), pytest.param(DINO_V2, id="dinov2", marks=pytest.mark.thorough)]
)
def test_textures_come_apart_without_collapse(gratings, recipe, tmp_path, additions):
    """Two kinds of gratings, of which nothing is told: their features come apart. Teacher and centre follow faster than
    the paper's, for there are 160 steps, not 400,000.
    """
    recipe = replace(
        recipe, momentum=0.9, centre_momentum=0.5, teacher_temp=0.03, warmup_teacher_temp=0.03, monitor=10,
        head=Head(256, 64, 32), model=replace(recipe.model, drop_path=0.0),
        crops=MultiCrop(4, 16, local_scale=(0.1, 0.4), flip=0.0, jitter=0.0, blur=(0.0, 0.0, 0.0), solarise=0.0),
        data=replace(recipe.data, cache_px=48),
        optim=replace(recipe.optim, batch_size=30, epochs=80, warmup_epochs=8, base_lr=0.004),
        run=replace(recipe.run, checkpoint_minutes=5), **additions,
    )  # fmt: skip
    pretrain(recipe, gratings, tmp_path / "run", tmp_path / "cache")
    log = pd.read_csv(tmp_path / "run/log.csv")
    assert log["knn"].dropna().iloc[-1] > 0.8
    assert log["feature_std"].iloc[-1] > 0.05
    assert log["teacher_entropy"].max() > 1.0


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda r: replace(r, tiles_per_slide=8), "tiles_per_slide is for tiles"),
        (lambda r: replace(r, stain=Stain("macenko")), "stain is for tiles"),
        (lambda r: replace(r, model=replace(r.model, channels=2)), "channels 2: 1 .grey. or 3"),
        (lambda r: replace(r, model=replace(r.model, class_token=False)), "class_token true"),
        (lambda r: replace(r, crops=replace(r.crops, local_px=15)), "multiple of model.patch_size"),
        (lambda r: replace(r, optim=replace(r.optim, ema_decay=0.9)), "optim.ema_decay"),
        (lambda r: replace(r, model=replace(r.model, frames=8, tubelet=2)), "model.frames 8"),
        (lambda r: replace(r, student_temp=0.0), "student_temp"),
        (lambda r: replace(r, optim=replace(r.optim, weight_decay=0.0)), "weight_decay_end"),
    ],
)
def test_requests_that_make_no_sense_are_refused(cohort, recipe, tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        pretrain(change(recipe), read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")


def test_images_are_read_in_colour_where_the_model_has_three_channels(cohort, recipe, tmp_path):
    recipe = replace(recipe, model=replace(recipe.model, channels=3), optim=replace(recipe.optim, epochs=2))
    encoder = pretrain(recipe, read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")
    assert read_encoder_card(encoder).arch.channels == 3


def test_each_tensor_is_clipped_by_itself():
    model = torch.nn.Linear(4, 3)
    model.weight.grad, model.bias.grad = torch.full((3, 4), 10.0), torch.full((3,), 0.1)
    training = SimpleNamespace(model=model, optim=Dino().optim)
    Training.configure_gradient_clipping(training, None)
    assert model.weight.grad.norm().item() == pytest.approx(3.0, rel=1e-4)
    assert torch.equal(model.bias.grad, torch.full((3,), 0.1))


def test_the_recipe_reads_back(tmp_path):
    (tmp_path / "recipe.yaml").write_text(to_yaml(replace(Dino(), crops=MultiCrop(turns=True))))
    read = parse_recipe(Dino(), tmp_path / "recipe.yaml", ["--head.out_dim", "1024", "--crops.blur", "[1.0,0.5,0.5]"])
    assert read.crops == MultiCrop(turns=True, blur=(1.0, 0.5, 0.5)) and read.head.out_dim == 1024
    assert read.optim == Optim(100, 10, "cosine", 64, 5e-4, 1e-6, 0.04, 0.4, (0.9, 0.999), clip_tensor_norm=3.0)


def test_monitor_logs_and_needs_labels(cohort, recipe, tmp_path):
    manifest = read_manifest(cohort())
    pretrain(replace(recipe, monitor=2), manifest, tmp_path / "run", tmp_path / "cache")
    knn = pd.read_csv(tmp_path / "run/log.csv")["knn"]
    assert knn.isna().tolist() == [True, False, True, False] and knn.dropna().between(0, 1).all()
    with pytest.raises(UserError, match="monitor needs a label"):
        pretrain(replace(recipe, monitor=2), manifest.with_labels(()), tmp_path / "other", tmp_path / "cache")


def test_neighbours_of_the_same_patient_do_not_vote():
    """Features that tell the patient and nothing else give no more than chance; those that tell the label, all."""
    rng = np.random.default_rng(0)
    patients, labels = np.arange(40).repeat(4), (np.arange(40) % 2).repeat(4)
    of_patient = torch.from_numpy(np.eye(40)[patients] + rng.normal(0, 0.01, (160, 40))).float()
    of_label = torch.from_numpy(np.eye(2)[labels] + rng.normal(0, 0.1, (160, 2))).float()
    targets = labels[:, None].astype(float)
    targets[:4] = np.nan
    assert neighbour_auroc(of_label, targets, patients, np.arange(160)) == pytest.approx(1.0)
    assert neighbour_auroc(of_label, targets, patients, patients) == pytest.approx(1.0)
    assert neighbour_auroc(of_patient, targets, patients, patients) < 0.7


def on_tiles(recipe):
    """The same recipe for tiles in colour."""
    optim = replace(recipe.optim, epochs=2)
    run = replace(recipe.run, max_bad=0.2)
    return replace(recipe, model=replace(recipe.model, channels=3), optim=optim, run=run, tiles_per_slide=8)


def test_tiles_straight_from_slides(slide_cohort, recipe, tmp_path):
    manifest, tiles = slide_cohort
    recipe = replace(on_tiles(recipe), monitor=1)
    folder = pretrain(recipe, manifest, tmp_path / "run", tmp_path / "cache", tiles)
    card = read_encoder_card(folder)
    assert card.arch.channels == 3 and card.data["unreadable_train"] == 1 and card.data["tiles"] == 144
    assert not (tmp_path / "cache").exists()
    log = pd.read_csv(tmp_path / "run/log.csv")
    assert len(log) == 2 and log["knn"].notna().all()
    with pytest.raises(DataError, match="1 of 7 training files"):
        strict = replace(recipe, run=replace(recipe.run, max_bad=0.01))
        pretrain(strict, manifest, tmp_path / "strict", tmp_path / "cache", tiles)


def test_masked_pretraining_on_tiles(slide_cohort, small_recipes, tmp_path):
    manifest, tiles = slide_cohort
    pre = on_tiles(small_recipes[0])
    pre = replace(pre, optim=replace(pre.optim, batch_size=8), stain=Stain("reinhard"))
    folder = pretrain(pre, manifest, tmp_path / "run", tmp_path / "cache", tiles)
    card = read_encoder_card(folder)
    assert card.method == "mae" and card.arch.channels == 3 and (tmp_path / "run/reconstructions.png").exists()
    (tiles / "s5.h5").unlink()
    with pytest.raises(UserError, match="tiles was"):
        loose = replace(pre, run=replace(pre.run, max_bad=0.2))
        pretrain(loose, manifest, tmp_path / "run", tmp_path / "cache", tiles)


@pytest.mark.parametrize("change", [{"channels": 1}, {"channels": 3, "frames": 4, "tubelet": 2}])
def test_tiles_are_images_in_colour(slide_cohort, small_recipes, tmp_path, change):
    manifest, tiles = slide_cohort
    pre = replace(small_recipes[0], model=replace(small_recipes[0].model, positions="learned", **change))
    with pytest.raises(UserError, match=r"model.channels 3"):
        pretrain(pre, manifest, tmp_path / "run", tmp_path / "cache", tiles)


SCRIPT = """
import sys
from pathlib import Path
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.engine.recipe import parse_recipe
from clinvit.pretrain.recipe import Dino
from clinvit.pretrain.run import pretrain
if __name__ == "__main__":
    data, recipe, out, devices = sys.argv[1:]
    recipe = parse_recipe(Dino(), Path(recipe), ["--run.devices", devices])
    pretrain(recipe, read_manifest(data), Path(out), Path(out).parent / "cache")
"""


@pytest.mark.thorough
def test_two_processes_equal_one(cohort, recipe, tmp_path):
    data = cohort()
    # Drop path draws on each process by itself.
    recipe = replace(recipe, model=replace(recipe.model, drop_path=0.0))
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    (tmp_path / "start.py").write_text(SCRIPT)
    for devices in (1, 2):
        out = tmp_path / f"d{devices}" / "run"
        arguments = [tmp_path / "start.py", data, tmp_path / "recipe.yaml", out, devices]
        subprocess.run([sys.executable, *map(str, arguments)], check=True, capture_output=True, timeout=300)
    one, two = (tmp_path / f"d{n}/run/checkpoints/last.ckpt" for n in (1, 2))
    one, two = (torch.load(path, weights_only=True)["state_dict"] for path in (one, two))
    torch.testing.assert_close(one["dino_loss.center"], two["dino_loss.center"], atol=1e-3, rtol=1e-2)
    first, second = (torch.cat([state[name].flatten() for name in sorted(state)]) for state in (one, two))
    assert (first - second).norm() < 1e-3 * first.norm()
