"""From feature files to a model folder and predictions: learns, resumes, fails by row, refuses other features."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.seen import read_hashes
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.datasets.slides.bags import BagFolder
from clinvit.engine.recipe import Optim, Run
from clinvit.engine.training import Training
from clinvit.eval.statistics.metrics import macro_auroc
from clinvit.mil.cards import load_any_card
from clinvit.mil.dsmil import DualStream
from clinvit.mil.model import load_mil
from clinvit.mil.predict import predict_mil
from clinvit.mil.recipe import Mil, paper_optim
from clinvit.mil.run import composite, train_mil
from clinvit.mil.weights import load_official_dsmil
from sklearn.metrics import roc_auc_score

h5py = pytest.importorskip("h5py")
WIDTH = 8
RECIPE = Mil(
    optim=Optim(
        epochs=16, warmup_epochs=0, batch_size=2, base_lr=2.56, weight_decay=1e-4, betas=(0.9, 0.999), optimizer="adam"
    ),
    run=Run(precision="32-true", checkpoint_minutes=0),
)


def write_bag(path, features, **attributes):
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=features.astype(np.float32)).attrs.update({"encoder": "vit", **attributes})
        file.create_dataset("coords", data=np.zeros((len(features), 2), np.int64)).attrs["tile_um"] = 112.0


@pytest.fixture
def slides(tmp_path):
    """A manifest and feature files; tumour tiles differ in one feature, and come last."""
    rng = np.random.default_rng(0)
    (tmp_path / "features").mkdir()
    rows = []
    for case in range(60):
        tumor, count = case // 3 % 2, int(rng.integers(1, 30)) + 5
        features = rng.normal(0, 1, (count, WIDTH))
        if tumor:
            features[-3:, 0] += 5
        write_bag(tmp_path / f"features/s{case}.h5", features)
        rows.append((f"s{case}", f"s{case}.tif", f"p{case}", ("train", "val", "test")[case % 3], tumor))
    pd.DataFrame(rows, columns=["id", "path", "patient", "split", "tumor"]).to_csv(
        tmp_path / "manifest.csv", index=False
    )
    return read_manifest(tmp_path / "manifest.csv"), tmp_path / "features"


def auroc(table) -> float:
    return macro_auroc(table.truth(), table.scores())


@pytest.mark.parametrize("name", ["self_vit_mil", "gated_attention", "max"])
def test_learns_and_finds_the_tiles(slides, tmp_path, name):
    manifest, features = slides
    folder = train_mil(replace(RECIPE, aggregator=name), manifest, features, tmp_path / "run")
    table = read_predictions(tmp_path / "run/predictions.csv")
    assert set(table.table["split"]) == {"val", "test"} and (table.table["status"] == "ok").all()
    assert auroc(table.rows("test")) > 0.9
    assert load_any_card(folder).kind == "mil" and len(read_hashes(folder / "trained_on.txt")) == 20
    model, card = load_mil(folder)
    assert card.features == {"encoder": "vit", "tile_um": 112.0} and card.width == WIDTH
    bags = BagFolder(manifest.rows("test").table["id"], features)
    found = list(predict_mil(model, card, bags))
    np.testing.assert_allclose([bag.probabilities for bag in found], table.rows("test").scores(), atol=1e-5)
    ill = next(bag for bag, truth in zip(found, manifest.rows("test").targets()[:, 0]) if truth)
    tumor = np.arange(len(ill.instances)) >= len(ill.instances) - 3
    assert roc_auc_score(tumor, ill.instances[:, 0]) > 0.85
    assert ill.attention.sum() == pytest.approx(len(ill.attention), abs=1e-5)


def test_goes_on_exactly(slides, tmp_path, monkeypatch):
    manifest, features = slides
    recipe = replace(RECIPE, aggregator="clam_mb", hidden=16, instance_dropout=0.3, max_instances=10)
    recipe = replace(recipe, optim=replace(recipe.optim, epochs=4))
    train_mil(recipe, manifest, features, tmp_path / "whole")
    step = Training.training_step

    def dying(self, batch, index):
        if (self.current_epoch, index) == (2, 1):
            raise KeyError("killed")
        return step(self, batch, index)

    monkeypatch.setattr(Training, "training_step", dying)
    with pytest.raises(KeyError, match="killed"):
        train_mil(recipe, manifest, features, tmp_path / "cut")
    monkeypatch.undo()
    train_mil(recipe, manifest, features, tmp_path / "cut")
    one, other = (safetensors.torch.load_file(tmp_path / run / "model/model.safetensors") for run in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (tmp_path / "whole/predictions.csv").read_bytes() == (tmp_path / "cut/predictions.csv").read_bytes()


def test_slides_without_features_are_failed(slides, tmp_path):
    manifest, features = slides
    (features / "s1.h5").unlink()
    (features / "s2.h5").write_text("no HDF5")
    short = replace(RECIPE, optim=replace(RECIPE.optim, epochs=1))
    train_mil(short, manifest, features, tmp_path / "run")
    table = read_predictions(tmp_path / "run/predictions.csv")
    assert len(table) == 40 and table.failed().table["id"].tolist() == ["s1", "s2"]
    assert "no such file" in table.failed().table["reason"].iloc[0]
    (features / "s0.h5").unlink()
    with pytest.raises(DataError, match=r"1 of 20 training files.*s0\.h5"):
        train_mil(short, manifest, features, tmp_path / "strict")


def test_what_cannot_be_learned_is_refused(slides, tmp_path):
    manifest, features = slides
    one = replace(manifest, table=manifest.table.assign(tumor=1.0))
    with pytest.raises(DataError, match="label 'tumor' is 1 in all 20"):
        train_mil(RECIPE, one, features, tmp_path / "run")
    with pytest.raises(DataError, match="none of the 60 cases has readable features"):
        train_mil(RECIPE, manifest, tmp_path / "nothing", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_exclusive_classes(slides, tmp_path):
    manifest, features = slides
    manifest.table["normal"] = 1 - manifest.table["tumor"]
    both = replace(manifest, labels=("normal", "tumor"))
    recipe = replace(RECIPE, aggregator="clam_sb", hidden=16, loss="ce")
    train_mil(recipe, both, features, tmp_path / "run")
    table = read_predictions(tmp_path / "run/predictions.csv")
    np.testing.assert_allclose(table.scores().sum(axis=1), 1, atol=1e-6)
    assert auroc(table.rows("test")) > 0.9


def test_features_of_another_encoder_are_refused(slides, tmp_path):
    manifest, features = slides
    folder = train_mil(replace(RECIPE, optim=replace(RECIPE.optim, epochs=1)), manifest, features, tmp_path / "run")
    model, card = load_mil(folder)
    (tmp_path / "other").mkdir()
    for width, encoder, words in ((WIDTH + 1, "vit", "width 9, but the model takes 8"), (WIDTH, "uni", "'uni', but")):
        write_bag(tmp_path / "other/x.h5", np.zeros((3, width)), encoder=encoder)
        with pytest.raises(DataError, match=words):
            next(predict_mil(model, card, BagFolder(["x"], tmp_path / "other")))


def test_a_model_of_images_is_no_model_of_bags(tmp_path):
    (tmp_path / "model.json").write_text('{"labels": ["a"]}')
    with pytest.raises(UserError, match="not a model of bags"):
        load_mil(tmp_path)
    with pytest.raises(UserError, match=r"no model\.json"):
        load_mil(tmp_path / "nothing")


def test_the_papers_rate():
    optim = paper_optim()
    assert optim.base_lr * optim.batch_size / 256 == pytest.approx(2e-4)


@pytest.mark.parametrize("linear", [True, False])
def test_official_weights_load_by_their_keys(tmp_path, linear):
    torch.manual_seed(0)
    model = DualStream(512, 1, linear=linear).eval()
    torch.save(dict(model.state_dict()), tmp_path / "init.pth")
    loaded, x = load_official_dsmil(tmp_path / "init.pth"), torch.randn(1, 9, 512)
    torch.testing.assert_close(loaded(x).logits, model(x).logits)


def test_other_weights_are_refused(tmp_path):
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="not aggregator weights"):
        load_official_dsmil(tmp_path / "other.pth")
    state = dict(DualStream(8, 1).state_dict())
    torch.save(state | {"b_classifier.v.1.weight": torch.zeros(8, 8)}, tmp_path / "passing.pth")
    with pytest.raises(UserError, match="passing_v"):
        load_official_dsmil(tmp_path / "passing.pth")


def test_the_composite_is_the_official_score():
    """By hand: AUROC 3/4, and at the threshold of the largest sensitivity + specificity 3 of 4 bags right."""
    truth = np.array([[0], [0], [1], [1], [np.nan]])
    scores = np.array([[0.1], [0.6], [0.5], [0.9], [0.3]])
    # Of thresholds 0.9 (1/2 + 1) and 0.5 (1 + 1/2) the higher: 0.5 is missed.
    assert composite(truth, scores, 0.4) == pytest.approx((0.75 + 0.75 + 1 - 0.4) / 4)
    two = np.hstack([truth, 1 - truth]), np.hstack([scores, 1 - scores])
    # Each label misses one bag, and not the same: two of four are right in both.
    assert composite(*two, 0.4) == pytest.approx((1.5 + 0.5 + 1 - 0.4) / 4)
    assert composite(np.ones((3, 1)), np.ones((3, 1)), 0.1) == -np.inf


def test_the_last_of_equally_good_epochs_is_kept(slides, tmp_path, monkeypatch):
    monkeypatch.setattr("clinvit.mil.run.composite", lambda *_: 0.5)
    optim = replace(RECIPE.optim, epochs=3)
    kept = {}
    for select in ("composite", "last"):
        folder = train_mil(replace(RECIPE, select=select, optim=optim), *slides, tmp_path / select)
        kept[select] = load_mil(folder)[0].state_dict()
    assert all(torch.equal(tensor, kept["last"][name]) for name, tensor in kept["composite"].items())
    assert "val_composite" in pd.read_csv(tmp_path / "composite/log.csv")
