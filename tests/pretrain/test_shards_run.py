"""Runs on shards: as from the cache where all fit, exact after an interruption where not all do."""

import signal
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.loading.cache import build_cache
from clinvit.datasets.loading.shards.packing import pack
from clinvit.datasets.loading.shards.pixels import Shards
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.finetune.run import finetune
from clinvit.pretrain.masked import MaskedPretraining
from clinvit.pretrain.run import pretrain
from clinvit.pretrain.sources import reader_of

GB = 40 * 40 / 1e9  # of one image


@pytest.fixture
def shards(cohort, small_recipes, tmp_path):
    """Shards of 8 images each, their manifest, and `shards(images)`: with room for so many here."""
    manifest = read_manifest(cohort())
    url = f"file://{tmp_path}/bucket"
    pack(manifest, build_cache(manifest.files(), tmp_path / "cache", reader_of(small_recipes[0])), url, 8 * 40 * 40)
    return lambda images, name="local": Shards(url, tmp_path / name, images * GB), manifest


def encoder(folder):
    return safetensors.torch.load_file(folder / "encoder/encoder.safetensors")


def test_the_command_packs_and_reads(cohort, tmp_path, capsys, monkeypatch):
    manifest, bucket = cohort(), f"file://{tmp_path}/bucket"
    prepare = ["prepare", "thorax", str(manifest), "--out", str(tmp_path / "data/manifest.csv"), "--shards", bucket]
    assert main(prepare) == 2 and "--cache-px 256" in capsys.readouterr().err
    assert main([*prepare, "--cache-px", "40"]) == 0
    assert f"{bucket}: 80 cases in 3 shards" in capsys.readouterr().out
    run = (
        (
            "pretrain thorax --data {} --model.size micro --model.image_size 32 --augment.size 32 --model.patch_size 8 "
            "--optim.epochs 2 --optim.warmup_epochs 1 --optim.batch_size 16 --decoder.width 32 --decoder.heads 2 "
            "--data.cache_px 40 --run.precision 32-true"
        )
        .format(tmp_path / "data")
        .split()
    )
    for name, place in (("cached", []), ("shards", ["--cache", bucket])):
        assert main([*run, "--out", str(tmp_path / name), *place]) == 0
    assert f"shards of {bucket}; at most 50 GB of them are kept in {tmp_path}/data" in capsys.readouterr().out
    one, other = encoder(tmp_path / "cached"), encoder(tmp_path / "shards")
    assert all(torch.equal(one[name], other[name]) for name in one), "all fit: the same images in the same order"
    assert len(list((tmp_path / "data/pixel-cache/shards").glob("*.shard"))) == 1, "the training images alone"
    assert main([*run, "--out", str(tmp_path / "other"), "--cache", bucket, "--data.cache_px", "36"]) == 2
    assert "36px-v3/index.json: no shards there for this recipe" in capsys.readouterr().err


def test_pretraining_goes_on_exactly_where_not_all_shards_fit(shards, small_recipes, tmp_path, monkeypatch):
    place, manifest = shards
    recipe = replace(small_recipes[0], optim=replace(small_recipes[0].optim, epochs=2, batch_size=8))
    assert place(24).pixels(manifest.rows("train"), reader_of(recipe)).window == 1
    pretrain(recipe, manifest, tmp_path / "whole", place(24))
    start = MaskedPretraining.training_step

    def warned(self, batch, index):
        if (self.current_epoch, index) == (1, 2):
            signal.raise_signal(signal.SIGTERM)
        return start(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(MaskedPretraining, "training_step", warned)
        with pytest.raises(KeyboardInterrupt):
            pretrain(recipe, manifest, tmp_path / "cut", place(24, "elsewhere"))
    with pytest.raises(UserError, match="another run: cache_gb was"):
        pretrain(recipe, manifest, tmp_path / "cut", place(48))
    pretrain(recipe, manifest, tmp_path / "cut", place(24))
    whole, cut = encoder(tmp_path / "whole"), encoder(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert (tmp_path / "cut/reconstructions.png").is_file()
    assert len(list((tmp_path / "local").glob("*.shard"))) <= 3


def test_finetuning_takes_shards_where_all_fit(shards, small_recipes, tmp_path):
    place, manifest = shards
    recipe = replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=2))
    for name, cache in (("cached", tmp_path / "cache"), ("shards", place(80))):
        finetune(recipe, manifest, tmp_path / name, cache)
    one, other = ((tmp_path / name / "predictions.csv").read_text() for name in ("cached", "shards"))
    assert one == other
    with pytest.raises(UserError, match="fine-tuning takes shards only where all of them fit here"):
        finetune(recipe, manifest, tmp_path / "small", place(40))
