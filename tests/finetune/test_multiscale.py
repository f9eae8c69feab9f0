"""Scaling on Scales against a direct calculation; pixels that are really there; features never mixed."""

import shutil
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.datasets.slides.bags import BagFolder
from clinvit.datasets.slides.hdf5 import write_tiles
from clinvit.datasets.slides.tiles import TileGrid
from clinvit.finetune.classifier import encoded
from clinvit.finetune.model import load_model
from clinvit.finetune.multiscale import multiscale_tokens, multiscale_vectors
from clinvit.finetune.pipeline import manifest_cases, predicted
from clinvit.finetune.predict import model_predictor
from clinvit.finetune.recipe import Finetune, View
from clinvit.finetune.run import finetune
from clinvit.mil.extract import Extract, extract
from clinvit.mil.slide_encoder import TokenFeatures, load_tile_encoder
from PIL import Image
from torch.nn import functional as F


def vit(**fields) -> ViT:
    torch.manual_seed(0)
    return ViT(
        Architecture(**({"width": 32, "depth": 2, "heads": 2, "image_size": (32, 32), "patch_size": 8} | fields))
    )


@torch.no_grad()
def direct(encoder: ViT, x: torch.Tensor, scales) -> tuple[torch.Tensor, torch.Tensor]:
    """Section 3 of the paper, place by place: the class feature and the grid of one image (C, H, W)."""
    side, patch = encoder.arch.image_size[0], encoder.arch.patch_size
    grid = side // patch
    classes, features = [], torch.zeros(grid, grid, 0)
    for scale in scales:
        sized = F.interpolate(x[None], (scale * side, scale * side), mode="bicubic", antialias=True)
        whole = torch.zeros(scale * grid, scale * grid, encoder.arch.width)
        own = []
        for i in range(scale):
            for j in range(scale):
                tokens = encoder(sized[:, :, i * side : (i + 1) * side, j * side : (j + 1) * side])
                own.append(tokens.cls[0])
                for n, token in enumerate(tokens.patches[0]):
                    whole[i * grid + n // grid, j * grid + n % grid] = token
        pooled = torch.stack(
            [
                whole[r * scale : (r + 1) * scale, c * scale : (c + 1) * scale].mean(dim=(0, 1))
                for r in range(grid)
                for c in range(grid)
            ]
        )
        features = torch.cat([features, pooled.view(grid, grid, -1)], dim=2)
        classes.append(torch.stack(own).mean(dim=0))
    return torch.cat(classes), features.flatten(0, 1)


@pytest.mark.parametrize("scales", [(1, 2, 3), (1, 3), (1,)])
def test_equals_the_direct_calculation(scales):
    encoder = vit().eval()
    x = torch.randn(2, 1, 32 * scales[-1], 32 * scales[-1])
    with torch.no_grad():
        tokens = multiscale_tokens(encoder, x, scales)
        vectors = multiscale_vectors(TokenFeatures(encoder, "class_mean"), x, scales)
    for i in range(2):
        cls, patches = direct(encoder, x[i], scales)
        torch.testing.assert_close(tokens.cls[i], cls)
        torch.testing.assert_close(tokens.patches[i], patches)
        means = patches.mean(dim=0).split(32)
        parts = [torch.cat(pair) for pair in zip(cls.split(32), means)]
        torch.testing.assert_close(vectors[i], torch.cat(parts))


@pytest.fixture
def encoder(tmp_path):
    """An encoder folder of images of 32 px, weights random."""
    network = vit(width=64)
    return save_encoder(tmp_path / "encoder", network, EncoderCard(network.arch, (0.5,), (0.25,), method="mae"))


def several(recipe: Finetune, mode: str, scales=(1, 2), cache_px=64, **fields) -> Finetune:
    pool = "attention" if mode == "attentive" else "mean"
    data, optim = replace(recipe.data, cache_px=cache_px), replace(recipe.optim, epochs=4)
    return replace(recipe, **({"mode": mode, "pool": pool, "scales": scales, "data": data, "optim": optim} | fields))


@pytest.mark.parametrize("mode", ["linear", "attentive", "knn"])
def test_a_probe_of_several_scales(cohort, encoder, small_recipes, tmp_path, mode):
    manifest = read_manifest(cohort(size=64))
    folder = finetune(several(small_recipes[1], mode), manifest, tmp_path / "run", tmp_path / "cache", encoder)
    model, card = load_model(folder)
    assert card.scales == (1, 2) and card.views().size == 64
    width = model.known_features.shape[1] if mode == "knn" else model.head.in_features
    assert width == 2 * 64
    start = safetensors.torch.load_file(encoder / "encoder.safetensors")
    assert all(torch.equal(weight.cpu(), start[name]) for name, weight in model.encoder.state_dict().items())
    table = read_predictions(tmp_path / "run/predictions.csv")
    again = predicted(*manifest_cases(manifest.rows("val", "test"), card.labels), model_predictor(model, card), False)
    assert (again["status"] == "ok").all()
    np.testing.assert_allclose(again[[f"p_{label}" for label in card.labels]], table.scores(), atol=1e-5)
    # The second scale has eyes for what the first cannot tell apart.
    x = torch.randn(1, 1, 64, 64, device=next(model.parameters()).device)
    fine = x + torch.tensor([1.0, -1.0], device=x.device).repeat(32)
    with torch.no_grad():
        seen = [encoded(model.encoder, images, model.scales).patches.mean(dim=1)[0] for images in (x, fine)]
    change = (seen[1] - seen[0]).abs().cpu()
    assert change[64:].mean() > 3 * change[:64].mean()


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"scales": (2,)}, r"scales \[2\]: whole numbers that rise, the first 1"),
        ({"scales": (1, 3, 2)}, r"scales \[1, 3, 2\]: whole numbers that rise"),
        ({"mode": "full"}, r"scales \[1, 2\] are for a frozen encoder .*not for mode 'full'"),
        ({"mode": "lora", "lora_rank": 2}, "not for mode 'lora'"),
        ({"patch_drop": 0.5}, "need all patches: set --patch_drop 0, not 0.5"),
        ({"cache_px": 63}, "read images at 64 px, data.cache_px 63 keeps fewer: set --data.cache_px 64"),
        ({"view": View("crop", 36), "scales": (1, 2, 3)}, "read images at 108 px, .*: set --data.cache_px 108"),
    ],
)
def test_what_scales_do_not_go_with(cohort, encoder, small_recipes, tmp_path, fields, words):
    with pytest.raises(UserError, match=words):
        finetune(
            several(small_recipes[1], **({"mode": "linear"} | fields)), read_manifest(cohort(5)), tmp_path / "run",
            tmp_path / "cache", encoder,
        )  # fmt: skip


def test_clips_have_one_scale(clip_cohort, small_clip_recipes, tmp_path):
    arch = small_clip_recipes[1].model.architecture()
    encoder = save_encoder(tmp_path / "encoder", ViT(arch), EncoderCard(arch, (0.5,), (0.25,)))
    with pytest.raises(UserError, match=r"scales \[1, 2\] are for images, not for clips"):
        finetune(
            several(small_clip_recipes[1], "linear"), read_manifest(clip_cohort(5)), tmp_path / "run",
            tmp_path / "cache", encoder,
        )  # fmt: skip


def test_no_image_is_enlarged(cohort, encoder, small_recipes, tmp_path):
    """A file of too few pixels is one that cannot be read, also where a cache of one scale holds it already."""
    manifest = read_manifest(cohort(size=64))
    row = manifest.rows("test")
    with Image.open(row.files()[0]) as image:
        image.resize((64, 60)).save(row.files()[0])
    once = several(small_recipes[1], "linear", scales=(1,))
    finetune(once, manifest, tmp_path / "one", tmp_path / "cache", encoder)
    assert not len(read_predictions(tmp_path / "one/predictions.csv").failed())
    finetune(several(small_recipes[1], "linear"), manifest, tmp_path / "two", tmp_path / "cache", encoder)
    failed = read_predictions(tmp_path / "two/predictions.csv").failed().table
    assert failed["id"].tolist() == row.table["id"].tolist()[:1]
    assert "64 x 60 px, but its shorter side is read at 64" in failed["reason"].iloc[0]


@pytest.fixture
def slide(tmp_path):
    """An image as a slide of 0.5 microns per px, two tiles of 32 px for 64 of it; gives manifest, tiles, pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    table = pd.DataFrame([{"id": "a", "path": "a.png", "patient": "p", "split": "train", "mpp": 0.5, "tumor": 0}])
    table.to_csv(tmp_path / "manifest.csv", index=False)
    grid = TileGrid(
        np.array([[0, 0], [96, 32]]), np.ones(2, np.float32), tile_px=32, tile_um=32.0, overlap_um=0.0,
        tile_level0_px=64, mpp=0.5, width_px=160, height_px=128,
    )  # fmt: skip
    (tmp_path / "tiles").mkdir()
    write_tiles(tmp_path / "tiles/a.h5", grid)
    network = vit(channels=3)
    save_encoder(tmp_path / "tile-encoder", network, EncoderCard(network.arch, (0.5,) * 3, (0.25,) * 3))
    return read_manifest(tmp_path / "manifest.csv"), tmp_path / "tiles", pixels


def test_tiles_at_two_scales(slide, tmp_path):
    manifest, tiles, pixels = slide
    source = str(tmp_path / "tile-encoder")
    recipe = Extract(features="mean", scales=(1, 2), precision="32-true", workers=1)
    assert extract(recipe, manifest, tiles, tmp_path / "features", source)["status"].tolist() == ["ok"]
    with h5py.File(tmp_path / "features/a.h5") as file:
        found, said = file["features"][:], dict(file["features"].attrs)
    assert found.shape == (2, 64) and said["encoder_scales"] == "1 2"
    encoder = load_tile_encoder(source, "mean")
    x = torch.from_numpy(pixels[32:96, 96:160].transpose(2, 0, 1).copy())[None].float() / 255
    expected = direct(encoder.network.vit, ((x - 0.5) / 0.25)[0], (1, 2))[1].mean(dim=0)
    np.testing.assert_allclose(found[1], expected, atol=1e-4)

    # Of the same width, and yet not to be mixed.
    shutil.copy(tmp_path / "features/a.h5", tmp_path / "features/b.h5")
    with h5py.File(tmp_path / "features/b.h5", "a") as file:
        file["features"].attrs["encoder_scales"] = "1 3"
    with pytest.raises(DataError, match=r"b\.h5: encoder_scales is '1 3', but '1 2' in .*a\.h5"):
        BagFolder(["a", "b"], tmp_path / "features")


def test_a_slide_is_not_enlarged_either(slide, tmp_path):
    manifest, tiles, _ = slide
    recipe = Extract(features="mean", scales=(1, 2, 3), workers=1)
    status = extract(recipe, manifest, tiles, tmp_path / "features", str(tmp_path / "tile-encoder"))
    assert status["status"].tolist() == ["failed"]
    assert "scale 3 reads tiles at 0.333 microns per px, the slide's finest have 0.5" in status["reason"].iloc[0]
    with pytest.raises(UserError, match=r"scales was .*1, 2, 3.* now"):
        extract(replace(recipe, scales=(1, 2)), manifest, tiles, tmp_path / "features", str(tmp_path / "tile-encoder"))
