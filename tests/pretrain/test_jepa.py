"""Latent prediction: masks, loss and moving average against their formulas, and that it learns without collapse."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from clinvit.backbone.encoder import open_vit
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.engine.recipe import to_yaml
from clinvit.engine.training import Training
from clinvit.pretrain.jepa import LatentPredictor, block_masks, block_size, latent_loss, latent_targets
from clinvit.pretrain.jepa_recipe import Jepa, Predictor
from clinvit.pretrain.jepa_training import LatentPretraining
from clinvit.pretrain.masking import Masks
from clinvit.pretrain.recipe import Decoder
from clinvit.pretrain.run import pretrain
from PIL import Image

GRID = (4, 14, 14)
CLIPS = Architecture(
    32, 2, 2, image_size=(32, 32), patch_size=8, frames=4, tubelet=2, class_token=False, positions="sine3d"
)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stated_masks(grid, batch, draw, blocks, area, ratio):
    """Return visible and masked tokens of each case by the stated rules, token by token, from the same draws."""
    times, rows, columns = grid
    aspect = ratio[0] + torch.rand(1, generator=draw).item() * (ratio[1] - ratio[0])
    tokens = int(rows * columns * area)
    height, width = min(round(np.sqrt(tokens * aspect)), rows), min(round(np.sqrt(tokens / aspect)), columns)
    tops = torch.randint(rows - height + 1, (batch, blocks), generator=draw)
    lefts = torch.randint(columns - width + 1, (batch, blocks), generator=draw)
    seen, hidden = [], []
    for case in range(batch):
        corners = list(zip(tops[case].tolist(), lefts[case].tolist()))
        covered = [
            any(top <= row < top + height and left <= column < left + width for top, left in corners)
            for _ in range(times)
            for row in range(rows)
            for column in range(columns)
        ]
        seen.append([i for i, inside in enumerate(covered) if not inside])
        hidden.append([i for i, inside in enumerate(covered) if inside])
    fewest = [min(map(len, lists)) for lists in (seen, hidden)]
    return [one[: fewest[0]] for one in seen], [one[: fewest[1]] for one in hidden]


@pytest.mark.parametrize("blocks, area", [(8, 0.15), (2, 0.7)])
@pytest.mark.parametrize("seed", range(4))
def test_masks_equal_the_stated_rules(blocks, area, seed):
    ratio = (0.75, 1.5)
    masks = block_masks(GRID, 5, generator(seed), blocks=blocks, area=area, ratio=ratio)
    seen, hidden = stated_masks(GRID, 5, generator(seed), blocks, area, ratio)
    assert masks.visible_ids.tolist() == seen and masks.target_ids.tolist() == hidden


@pytest.mark.parametrize("grid", [(1, 4, 4), (2, 2, 2), (1, 2, 1), (8, 3, 5), (1, 14, 14)])
@pytest.mark.parametrize("area", [0.05, 0.5, 0.95])
def test_on_any_grid_something_is_seen_something_masked_and_nothing_both(grid, area):
    masks = block_masks(grid, 16, generator(1), blocks=4, area=area, ratio=(0.5, 2.0))
    assert masks.visible_ids.shape[1] and masks.target_ids.shape[1]
    for seen, hidden in zip(*(ids.tolist() for ids in masks[:2])):
        assert not set(seen) & set(hidden) and max(seen + hidden) < np.prod(grid)
        places = {token % (grid[1] * grid[2]) for token in hidden}
        assert {token % (grid[1] * grid[2]) for token in seen}.isdisjoint(places)  # over the whole length


def test_a_single_token_cannot_be_masked():
    with pytest.raises(ValueError, match="use smaller patches"):
        block_size(1, 1, 0.5, (1.0, 1.0), generator(0))


def some_masks() -> list[Masks]:
    sets = ((3, 0.15), (1, 0.6))
    return [
        block_masks(CLIPS.grid, 3, generator(i), blocks=b, area=a, ratio=(0.75, 1.5)) for i, (b, a) in enumerate(sets)
    ]


def test_loss_equals_its_formula_in_numpy():
    torch.manual_seed(0)
    masks, encoder = some_masks(), ViT(CLIPS)
    x = torch.randn(3, 1, 4, 32, 32)
    targets = latent_targets(encoder, x)
    features = encoder(x).patches.detach().double().numpy()
    wanted = (features - features.mean(-1, keepdims=True)) / np.sqrt(features.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(targets.numpy(), wanted, atol=1e-5)
    predicted = [torch.randn(3, mask.target_ids.shape[1], 32) for mask in masks]
    errors = [
        np.abs(one.double().numpy() - np.take_along_axis(wanted, mask.target_ids.numpy()[..., None], 1)).mean()
        for one, mask in zip(predicted, masks)
    ]
    assert latent_loss(predicted, targets, masks).item() == pytest.approx(np.mean(errors), abs=1e-6)


def test_the_predictor_sees_the_visible_tokens_alone_and_each_set_has_its_own_mask_token():
    torch.manual_seed(0)
    model, masks = LatentPredictor(ViT(CLIPS), Decoder(48, 2, 3), 2).eval(), some_masks()
    assert model.mask_token.shape == (2, 1, 48) and not model.mask_token.any()
    x = torch.randn(3, 1, 4, 32, 32)
    before = model(x, masks)
    assert [tuple(one.shape) for one in before] == [(3, mask.target_ids.shape[1], 32) for mask in masks]
    places = masks[0].target_ids[0] % 16
    for place in set(places.tolist()):
        row, column = divmod(place, 4)
        x[0, :, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 9.0  # what is masked is of no account
    torch.testing.assert_close(model(x, masks)[0][0], before[0][0])
    with torch.no_grad():
        model.mask_token[1].normal_()
    after = model(x, masks)
    torch.testing.assert_close(after[0][0], before[0][0])
    assert (after[1][1] - before[1][1]).abs().max() > 1e-3
    positions = model.decoder_pos_embed[0]
    assert len(positions.unique(dim=0)) == 32


@pytest.fixture
def recipe(small_clip_recipes):
    """Latent prediction on clips in seconds: 36 training clips, two samples of each."""
    pre = small_clip_recipes[0]
    return Jepa(
        momentum=0.95, blocks=(4, 1), block_area=(0.15, 0.5), model=replace(pre.model, positions="sine3d"),
        predictor=Predictor(48, 1, 3), data=pre.data, augment=replace(pre.augment, flip=0.0),
        optim=replace(pre.optim, epochs=3, base_lr=0.005, weight_decay=0.04), run=pre.run,
    )  # fmt: skip


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_target_is_the_moving_average_and_is_kept(clip_cohort, recipe, tmp_path, monkeypatch, accumulate):
    seen, end = [], LatentPretraining.on_train_batch_end

    def look(self, *arguments):
        end(self, *arguments)
        seen.append([{k: v.clone() for k, v in net.state_dict().items()} for net in (self.kept, self.model.encoder)])

    monkeypatch.setattr(LatentPretraining, "on_train_batch_end", look)
    recipe = replace(recipe, optim=replace(recipe.optim, accumulate=accumulate))
    folder = pretrain(recipe, read_manifest(clip_cohort()), tmp_path / "run", tmp_path / "cache")
    ends = seen[accumulate - 1 :: accumulate]
    for (before, _), (after, student) in pairwise(ends):
        for name in ("blocks.0.mlp.fc1.weight", "patch_embed.proj.weight", "norm.bias"):
            torch.testing.assert_close(after[name], 0.95 * before[name] + 0.05 * student[name], atol=1e-6, rtol=1e-6)
    vit, card = open_vit(folder)
    assert card.method == "jepa" and all(torch.equal(vit.state_dict()[k], v) for k, v in ends[-1][0].items())
    assert np.asarray(Image.open(tmp_path / "run/features.png")).ndim == 3


def test_parts_of_a_batch_change_no_mask(clip_cohort, recipe, tmp_path, monkeypatch):
    drawn, begin = {1: [], 2: []}, LatentPretraining.begin

    def look(self, batch, index):
        begin(self, batch, index)
        drawn[self.optim.accumulate].append(self.masks)

    monkeypatch.setattr(LatentPretraining, "begin", look)
    manifest = read_manifest(clip_cohort())
    for parts in (1, 2):
        changed = replace(recipe, optim=replace(recipe.optim, accumulate=parts, epochs=2))
        pretrain(changed, manifest, tmp_path / str(parts), tmp_path / "cache")
    for i, whole in enumerate(drawn[1]):
        for number, one in enumerate(whole):
            pair = [drawn[2][2 * i + part][number] for part in (0, 1)]
            assert torch.equal(one.target_ids, torch.cat([part.target_ids for part in pair]))


@pytest.mark.parametrize("kind", ["clips", "images"])
def test_resumed_equals_uninterrupted(clip_cohort, cohort, recipe, small_recipes, tmp_path, monkeypatch, kind):
    """Of clips, and of images by the same code."""
    manifest, step = read_manifest(clip_cohort() if kind == "clips" else cohort()), Training.training_step
    if kind == "images":
        pre = small_recipes[0]
        recipe = replace(recipe, model=pre.model, data=pre.data)
    pretrain(recipe, manifest, tmp_path / "whole", tmp_path / "cache")

    def dying(self, data, index):
        if (self.current_epoch, index) == (1, 1):
            raise KeyError("killed")
        return step(self, data, index)

    monkeypatch.setattr(Training, "training_step", dying)
    with pytest.raises(KeyError):
        pretrain(recipe, manifest, tmp_path / "cut", tmp_path / "cache")
    monkeypatch.setattr(Training, "training_step", step)
    pretrain(recipe, manifest, tmp_path / "cut", tmp_path / "cache")
    whole, cut = (
        safetensors.torch.load_file(tmp_path / run / "encoder/encoder.safetensors") for run in ("whole", "cut")
    )
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_collapse_is_said(clip_cohort, recipe, tmp_path, monkeypatch):
    """An encoder that sees nothing gives every clip the same features."""
    embed = ViT.embed
    monkeypatch.setattr(ViT, "embed", lambda self, x, ids=None: embed(self, torch.zeros_like(x), ids) + 0 * x.mean())
    short = replace(recipe, optim=replace(recipe.optim, epochs=1, warmup_epochs=0))
    with pytest.warns(UserWarning, match="the encoder has collapsed"):
        pretrain(short, read_manifest(clip_cohort()), tmp_path / "run", tmp_path / "cache")


@pytest.fixture
def drifting(tmp_path):
    """Write 32 clips of gratings that drift, of any direction, width and brightness; give the manifest's path."""
    rng, rows = np.random.default_rng(0), []
    y, x = np.mgrid[:40, :40]
    for i in range(32):
        angle, light, wave = rng.uniform(0, 3.1), rng.uniform(70, 180), rng.uniform(8, 14)
        (tmp_path / f"drifting/{i}").mkdir(parents=True)
        for frame in range(8):
            phase = 2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wave + 0.7 * frame
            pixels = light + 45 * np.sin(phase) + rng.normal(0, 8, x.shape)
            name = tmp_path / f"drifting/{i}/{frame}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(name)
        rows.append((str(i), str(i), f"p{i}", "train"))
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split"])
    table.to_csv(tmp_path / "drifting/manifest.csv", index=False)
    return tmp_path / "drifting/manifest.csv"


@pytest.mark.thorough
@pytest.mark.slow
def test_by_the_command_it_learns_more_than_chance(drifting, recipe, small_clip_recipes, tmp_path):
    """The loss falls far below that of the mean feature, without collapse; and it goes on, from VideoMAE too."""
    recipe = replace(
        recipe, momentum=0.99, model=replace(recipe.model, tubelet=4), predictor=Predictor(64, 1, 4),
        data=replace(recipe.data, mean=(0.5,), std=(0.2,)),
        optim=replace(recipe.optim, epochs=40, warmup_epochs=4, base_lr=0.015, clip_norm=1.0, betas=(0.9, 0.999)),
        run=replace(recipe.run, checkpoint_minutes=5),
    )  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    given = ["--recipe", "jepa_tiny", "--data", str(drifting), "--config", str(tmp_path / "recipe.yaml")]
    common = ["pretrain", "erdes", *given]
    assert main([*common, "--out", str(tmp_path / "run")]) == 0
    log = pd.read_csv(tmp_path / "run/log.csv")
    assert log["loss"].iloc[0] > log["loss_of_mean"].iloc[0]
    assert log["loss"].iloc[-1] < 0.6 * log["loss_of_mean"].iloc[-1]
    assert log["feature_std"].iloc[-1] > 0.2

    short = ["--optim.epochs", "3", "--optim.warmup_epochs", "1", "--encoder"]
    assert main([*common, "--out", str(tmp_path / "more"), *short, str(tmp_path / "run/encoder")]) == 0
    more = pd.read_csv(tmp_path / "more/log.csv")
    assert more["loss"].iloc[-1] < log["loss"].iloc[2]
    pre = replace(small_clip_recipes[0], model=replace(recipe.model, positions="sine1d"))
    mae = pretrain(pre, read_manifest(drifting), tmp_path / "mae", tmp_path / "cache")
    assert main([*common, "--out", str(tmp_path / "other"), *short, str(mae)]) == 0
    assert open_vit(tmp_path / "other/encoder")[1].arch.positions == "sine1d"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda r: replace(r, blocks=(8, 2, 1)), "a number of each for every set"),
        (lambda r: replace(r, predictor=replace(r.predictor, heads=5)), "predictor.width 48 is not a multiple"),
        (lambda r: replace(r, augment=replace(r.augment, size=48)), "augment.size 48 and model.image_size 32"),
        (lambda r: replace(r, model=replace(r.model, patch_size=32)), "use smaller patches"),
        (lambda r: replace(r, optim=replace(r.optim, ema_decay=0.9)), "optim.ema_decay"),
    ],
)
def test_requests_that_make_no_sense_are_refused(recipe, change, words):
    with pytest.raises(UserError, match=words):
        LatentPretraining.build(change(recipe))
