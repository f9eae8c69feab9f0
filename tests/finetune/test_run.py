"""From a manifest to a model and predictions: full, linear, k-NN, timm; what cannot be learned is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.encoder import fingerprint, save_encoder
from clinvit.backbone.vit import ViT
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.seen import TRAINED_ON, case_hash, read_hashes
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.eval.statistics.metrics import macro_auroc
from clinvit.finetune.model import load_model
from clinvit.finetune.pipeline import manifest_cases, predicted
from clinvit.finetune.predict import model_predictor
from clinvit.finetune.recipe import View
from clinvit.finetune.run import finetune
from clinvit.pretrain.run import pretrain


def auroc(table) -> float:
    return macro_auroc(table.truth(), table.scores())


def test_learns_and_predicts_the_same_from_files(cohort, small_recipes, tmp_path):
    path = cohort(patients=60)
    manifest = read_manifest(path)
    folder = finetune(small_recipes[1], manifest, tmp_path / "run", tmp_path / "cache")
    table = read_predictions(tmp_path / "run/predictions.csv")
    assert set(table.table["split"]) == {"val", "test"} and (table.table["status"] == "ok").all()
    assert np.isnan(table.truth()).any(), "unknown stays unknown"
    assert auroc(table.rows("test")) > 0.8

    model, card = load_model(folder)
    assert card.labels == ("Square", "Bar") and card.meaning["Bar"] == "1 = Bar present"
    again = predicted(*manifest_cases(manifest.rows("val", "test"), card.labels), model_predictor(model, card), False)
    assert (again["status"] == "ok").all()
    np.testing.assert_allclose(again[[f"p_{label}" for label in card.labels]], table.scores(), atol=1e-5)


@pytest.mark.parametrize("mode", ["linear", "knn"])
def test_frozen_features(cohort, small_recipes, tmp_path, mode):
    manifest = read_manifest(cohort(patients=60))
    encoder = pretrain(small_recipes[0], manifest.with_labels(()), tmp_path / "pre", tmp_path / "cache")
    recipe = replace(small_recipes[1], mode=mode, optim=replace(small_recipes[1].optim, base_lr=0.5, epochs=20))
    folder = finetune(recipe, manifest, tmp_path / "run", tmp_path / "cache", encoder)
    model, card = load_model(folder)
    assert card.encoder["method"] == "mae" and card.data["seen_in_pretraining"] == {"test": 0, "train": 72, "val": 0}
    assert card.encoder["sha256"] == fingerprint(encoder)
    before = load_model(folder)[0].encoder.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.encoder.state_dict().values()))
    assert auroc(read_predictions(tmp_path / "run/predictions.csv").rows("test")) > 0.6


def test_neighbours_are_the_files_that_could_be_read(cohort, small_recipes, tmp_path):
    manifest = read_manifest(cohort())
    encoder = pretrain(small_recipes[0], manifest.with_labels(()), tmp_path / "pre", tmp_path / "cache")
    manifest.files()[0].write_text("no image")
    recipe = replace(small_recipes[1], mode="knn", run=replace(small_recipes[1].run, max_bad=0.1))
    model, card = load_model(finetune(recipe, manifest, tmp_path / "run", tmp_path / "cache", encoder))
    assert card.reference_cases == len(model.known_targets) == len(manifest.rows("train")) - 1


def test_a_timm_network_beside_it(cohort, small_recipes, tmp_path):
    recipe = replace(small_recipes[1], network="resnet10t", optim=replace(small_recipes[1].optim, epochs=2))
    folder = finetune(recipe, read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")
    assert load_model(folder)[1].network == "resnet10t"


def test_three_channels_from_an_encoder_of_one(cohort, small_recipes, tmp_path):
    manifest = read_manifest(cohort())
    short = replace(small_recipes[0].optim, epochs=2)
    encoder = pretrain(replace(small_recipes[0], optim=short), manifest, tmp_path / "pre", tmp_path / "cache")
    recipe = replace(small_recipes[1], model=replace(small_recipes[1].model, channels=3), optim=short)
    _, card = load_model(finetune(recipe, manifest, tmp_path / "run", tmp_path / "cache", encoder))
    assert card.arch.channels == 3 and card.mean == (0.5056,) * 3
    assert not len(read_predictions(tmp_path / "run/predictions.csv").failed())


def test_a_stem_of_convolutions_is_trained_on_an_encoder_that_has_none(cohort, small_recipes, tmp_path, capsys):
    manifest = read_manifest(cohort())
    short = replace(small_recipes[0].optim, epochs=2)
    encoder = pretrain(replace(small_recipes[0], optim=short), manifest, tmp_path / "pre", tmp_path / "cache")
    recipe = replace(small_recipes[1], stem=True, patch_drop=0.5, optim=short)
    model, card = load_model(finetune(recipe, manifest, tmp_path / "run", tmp_path / "cache", encoder))
    assert "the stem of convolutions is new" in capsys.readouterr().out
    assert card.arch.stem and card.encoder["arch"]["stem"] is False
    assert model.encoder.stem.layers[-1].weight.abs().sum() > 0, "it was trained"
    assert not len(read_predictions(tmp_path / "run/predictions.csv").failed())
    with pytest.raises(UserError, match="not to network 'vit' in mode 'linear'"):
        finetune(replace(recipe, mode="linear"), manifest, tmp_path / "linear", tmp_path / "cache", encoder)
    with pytest.raises(UserError, match="not to network 'resnet10t' in mode 'full'"):
        finetune(replace(recipe, network="resnet10t"), manifest, tmp_path / "timm", tmp_path / "cache")


def test_bad_files_train_on_a_cap_and_are_rows_in_validation(cohort, small_recipes, tmp_path, capfd):
    path = cohort()
    table = pd.read_csv(path, dtype=str)
    for split in ("train", "val"):
        (path.parent / table[table["split"] == split]["path"].iloc[0]).write_text("not an image")
    manifest = read_manifest(path)
    recipe = replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=2))
    with pytest.raises(DataError, match=r"1 of 48 training files cannot be read.*run\.max_bad"):
        finetune(recipe, manifest, tmp_path / "strict", tmp_path / "cache")
    recipe = replace(recipe, run=replace(recipe.run, max_bad=0.05))
    folder = finetune(recipe, manifest, tmp_path / "run", tmp_path / "cache")
    said = capfd.readouterr().err
    assert "warning: 1 of 48 training files cannot be read and are left out" in said
    assert Path(table[table["split"] == "train"]["path"].iloc[0]).name in said
    assert load_model(folder)[1].data["unreadable_train"] == 1 and (tmp_path / "run/unreadable.csv").is_file()
    failed = read_predictions(tmp_path / "run/predictions.csv").failed().table
    assert len(failed) == 1 and "not an image" not in failed["reason"].iloc[0] and failed["reason"].iloc[0]


@pytest.mark.parametrize(("mode", "workers"), [("full", 0), ("full", 2), ("knn", 0)])
def test_a_file_that_breaks_while_training_is_named_counted_and_kept(
    cohort, small_recipes, tmp_path, capfd, workers, mode
):
    path = cohort()
    table = pd.read_csv(path, dtype=str)
    manifest, encoder = read_manifest(path), None
    if mode == "knn":
        short = replace(small_recipes[0], optim=replace(small_recipes[0].optim, epochs=2))
        encoder = pretrain(short, manifest, tmp_path / "pre", tmp_path / "cache")
    broken = table[table["split"] == "train"].iloc[3]
    (path.parent / broken["path"]).write_text("not an image")
    recipe = replace(
        small_recipes[1], mode=mode, optim=replace(small_recipes[1].optim, epochs=2),
        data=replace(small_recipes[1].data, cache=False),
        run=replace(small_recipes[1].run, max_bad=0.05, workers=workers),
    )  # fmt: skip
    folder = finetune(recipe, manifest, tmp_path / "run", tmp_path / "cache", encoder)
    said = capfd.readouterr().err
    assert said.count("cannot be read") == 1 and Path(broken["path"]).name in said
    data = load_model(folder)[1].data
    assert data["unreadable_train"] == 1 and data["unreadable_ids"] == [broken["id"]]
    kept = pd.read_csv(tmp_path / "run/unreadable.csv", dtype=str)
    assert kept["id"].tolist() == [broken["id"]] and Path(broken["path"]).name not in kept["reason"].iloc[0]
    assert case_hash(broken["id"]) not in read_hashes(folder / TRAINED_ON)


@pytest.mark.thorough
def test_too_many_files_that_break_while_training_stop_the_run(cohort, small_recipes, tmp_path):
    path = cohort()
    table = pd.read_csv(path, dtype=str)
    for name in table[table["split"] == "train"]["path"].iloc[:6]:
        (path.parent / name).write_text("not an image")
    recipe = replace(
        small_recipes[1], optim=replace(small_recipes[1].optim, epochs=2),
        data=replace(small_recipes[1].data, cache=False), run=replace(small_recipes[1].run, max_bad=0.05, workers=2),
    )  # fmt: skip
    with pytest.raises(DataError):
        finetune(recipe, read_manifest(path), tmp_path / "run", tmp_path / "cache")


def changed(path, **columns):
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name, change in columns.items():
        table[name] = change(table)
    table.to_csv(path, index=False)
    return read_manifest(path)


@pytest.mark.parametrize(
    "columns, words",
    [
        ({"Bar": lambda t: "0"}, "label 'Bar' is 0 in all 48 known training cases"),
        ({"Bar": lambda t: t["Bar"].where(t["split"] != "train", "")}, "'Bar' is unknown in all training"),
        ({"split": lambda t: t["split"].replace("train", "test")}, "nothing to train on"),
        ({"split": lambda t: t["split"].replace("val", "test")}, "--select last"),
    ],
)
def test_what_cannot_be_learned_is_refused(cohort, small_recipes, tmp_path, columns, words):
    manifest = changed(cohort(), **columns)
    with pytest.raises(DataError, match=words):
        finetune(small_recipes[1], manifest, tmp_path / "run", tmp_path / "cache")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"mode": "half"}, "mode is full, linear, .* or last_blocks, not 'half'"),
        ({"mode": "linear"}, "give one with --encoder"),
        ({"network": "resnet19"}, "timm knows no network"),
        ({"pool": "max"}, "unknown pool"),
        ({"pool": "topk"}, "set --pool_ratio"),
        ({"pool_ratio": 0.3}, "pool_ratio 0.3 is for pool topk, not 'mean'"),
        ({"pool": "topk", "pool_ratio": 0.3}, "unknown pool"),
        ({"view": View("squash", None, segments=2)}, "view.segments 2: with images every view is the same"),
        ({"loss": "ce"}, "exactly one 1 per case"),
    ],
)
def test_wrong_recipes_say_so(cohort, small_recipes, tmp_path, fields, words):
    with pytest.raises(UserError, match=words):
        finetune(replace(small_recipes[1], **fields), read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")


def test_batch_larger_than_the_data(cohort, small_recipes, tmp_path):
    recipe = replace(small_recipes[1], optim=replace(small_recipes[1].optim, batch_size=64))
    with pytest.raises(UserError, match="larger than the 48 training cases"):
        finetune(recipe, read_manifest(cohort()), tmp_path / "run", tmp_path / "cache")


def test_the_recipe_normalises_where_a_file_states_no_statistics(cohort, small_recipes, tmp_path, capsys):
    recipe = replace(small_recipes[1], data=replace(small_recipes[1].data, mean=(0.4,), std=(0.3,)))
    short = replace(recipe, optim=replace(recipe.optim, epochs=1, warmup_epochs=0))
    state = ViT(recipe.model.architecture()).state_dict()
    torch.save({"model": state | {"decoder_pred.weight": torch.zeros(8, 8)}}, tmp_path / "mae.pth")
    manifest = read_manifest(cohort())
    model = finetune(short, manifest, tmp_path / "file", tmp_path / "cache", tmp_path / "mae.pth")
    assert (load_model(model)[1].mean, load_model(model)[1].std) == ((0.4,), (0.3,))
    assert "the encoder's file states none" in capsys.readouterr().out

    card = EncoderCard(recipe.model.architecture(), (0.1,), (0.2,))
    own = save_encoder(tmp_path / "own", ViT(card.arch), card)
    model = finetune(short, manifest, tmp_path / "folder", tmp_path / "cache", own)
    assert (load_model(model)[1].mean, load_model(model)[1].std) == ((0.1,), (0.2,)), "as it was trained"
    assert "the recipe's are left aside" in capsys.readouterr().out


def test_the_last_epoch_is_judged_too(cohort, small_recipes, tmp_path):
    optim = replace(small_recipes[1].optim, epochs=5, warmup_epochs=0)
    finetune(
        replace(small_recipes[1], eval_every=3, optim=optim), read_manifest(cohort()), tmp_path / "run", tmp_path / "c"
    )
    log = pd.read_csv(tmp_path / "run/log.csv")
    assert log["epoch"][log["val_macro_auroc"].notna()].tolist() == [3, 5]


def test_a_probe_goes_without_a_last_batch_of_one(cohort, small_recipes, tmp_path, capsys):
    """Its batch norm cannot tell one case from their mean; PyTorch would end the run."""
    manifest = read_manifest(cohort())
    cases, fine = len(manifest.rows("train")), small_recipes[1]
    arch = fine.model.architecture()
    save_encoder(tmp_path / "encoder", ViT(arch), EncoderCard(arch, (0.5,), (0.25,)))
    batch = next(size for size in range(4, cases) if cases % size == 1)
    optim = replace(fine.optim, epochs=1, warmup_epochs=0, batch_size=batch, drop_last=False, layer_decay=1.0)
    recipe = replace(fine, mode="linear", patch_drop=0.0, optim=optim)
    finetune(recipe, manifest, tmp_path / "run", tmp_path / "cache", tmp_path / "encoder")
    said = capsys.readouterr().out
    assert f"note: {cases} cases in batches of {batch} leave 1 for the last batch of an epoch, too few" in said
