"""Cross-validation over slide features: by patient, every case scored once by a model that has not seen its patient."""

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.seen import TRAINED_ON, case_hash, read_hashes
from clinvit.datasets.manifest.tables import read_predictions
from clinvit.engine.recipe import Optim, Run
from clinvit.mil.recipe import Mil
from clinvit.stages.folds import finetune_folds

h5py = pytest.importorskip("h5py")
RECIPE = Mil(
    aggregator="mean", hidden=8, optim=Optim(epochs=6, warmup_epochs=0, batch_size=2, base_lr=2.56, optimizer="adam"),
    run=Run(precision="32-true", checkpoint_minutes=0),
)  # fmt: skip


@pytest.fixture
def slides(tmp_path):
    """Thirty slides of fifteen patients, each two of one class."""
    draw, rows = np.random.default_rng(0), []
    (tmp_path / "features").mkdir()
    for case in range(30):
        tumor = case // 2 % 2
        with h5py.File(tmp_path / f"features/s{case}.h5", "w") as file:
            file["features"] = (draw.normal(0, 1, (6, 8)) + 2 * tumor).astype(np.float32)
            file["coords"] = np.zeros((6, 2), np.int64)
        rows.append((f"s{case}", f"s{case}.tif", f"p{case // 2}", "train", tumor))
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", "tumor"])
    table.to_csv(tmp_path / "manifest.csv", index=False)
    return table, tmp_path / "manifest.csv", tmp_path / "features"


def test_every_case_is_scored_once_by_a_model_without_its_patient(slides, tmp_path):
    table, data, features = slides
    out = finetune_folds(RECIPE, data, tmp_path / "cv", 3, features=features)
    found = read_predictions(out)
    assert found.table["id"].tolist() == table["id"].tolist() and set(found.table["split"]) == {"test"}
    assert (found.table["status"] == "ok").all()
    folds = pd.read_csv(tmp_path / "cv/folds.csv", dtype=str)
    assert (folds.groupby("patient")["fold"].nunique() == 1).all() and set(folds["fold"]) == {"1", "2", "3"}
    for fold, own in folds.groupby("fold"):
        trained = read_hashes(tmp_path / f"cv/fold_{fold}/model" / TRAINED_ON)
        assert not trained & {case_hash(case) for case in own["id"]} and trained
    before = out.read_bytes()
    assert finetune_folds(RECIPE, data, tmp_path / "cv", 3, features=features).read_bytes() == before
    with pytest.raises(UserError, match="holds other folds"):
        finetune_folds(RECIPE, data, tmp_path / "cv", 4, features=features)
    with pytest.raises(UserError, match="from 3 on"):
        finetune_folds(RECIPE, data, tmp_path / "two", 2, features=features)


def test_each_site_is_held_out_once(slides, tmp_path, capsys):
    table, data, features = slides
    site = table["patient"].str[1:].astype(int) % 3
    table = table.assign(hospital=site.map({0: "north", 1: "south", 2: "west"}))
    table.to_csv(data, index=False)
    out = finetune_folds(RECIPE, data, tmp_path / "sites", "hospital", features=features)
    assert "fold 2 of 3: south: 10 cases are held out" in capsys.readouterr().out
    found = read_predictions(out)
    assert found.table["id"].tolist() == table["id"].tolist() and (found.table["status"] == "ok").all()
    folds = pd.read_csv(tmp_path / "sites/folds.csv", dtype=str)
    assert folds.groupby(table["hospital"])["fold"].unique().explode().tolist() == ["1", "2", "3"]
    for fold, own in folds.groupby("fold"):
        trained = read_hashes(tmp_path / f"sites/fold_{fold}/model" / TRAINED_ON)
        assert trained and not trained & {case_hash(case) for case in own["id"]}
        val = pd.read_csv(tmp_path / f"sites/fold_{fold}/predictions.csv").query("split == 'val'")
        assert len(val) == 2 and not set(val["id"]) & set(own["id"])  # a patient of the other sites


def test_sites_that_cannot_be_held_out_are_refused_before_any_training(slides, tmp_path):
    table, data, features = slides

    def refused(column="site", **columns):
        table.assign(**columns).to_csv(data, index=False)
        with pytest.raises(UserError) as caught:
            finetune_folds(RECIPE, data, tmp_path / "sites", column, features=features)
        assert not (tmp_path / "sites").exists()
        return str(caught.value)

    number = table["patient"].str[1:].astype(int)
    assert "no such column" in refused("sit", site=number % 2)
    assert "no such column" in refused("tumor")
    assert "1 values" in refused(site="north")
    assert "30 patients" not in refused(site=table["id"]) and "several, first 'p0'" in refused(site=table["id"])
    assert "nothing is recorded for 2 of 30" in refused(site=np.where(number == 3, "", "a"))
    assert "without 0 no training case differs in 'tumor'" in refused(site=number % 2)  # a site without positives
