"""Slides unlike those of training: flagged by the mean of their tiles, by the command and from Python."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit import load
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.engine.recipe import Optim, Run
from clinvit.finetune.out_of_distribution import FILE, RECORD
from clinvit.mil.cards import load_any_card
from clinvit.mil.recipe import Mil
from clinvit.mil.run import train_mil
from clinvit.stages.slides.predict import Request, predict_slides

h5py = pytest.importorskip("h5py")
RECIPE = Mil(
    aggregator="mean",
    optim=Optim(epochs=1, warmup_epochs=0, batch_size=8, base_lr=0.1, optimizer="adam"),
    run=Run(precision="32-true", checkpoint_minutes=0),
)


def write_bag(path, features):
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=features.astype(np.float32)).attrs["encoder"] = "vit"
        file.create_dataset("coords", data=np.zeros((len(features), 2), np.int64))


@pytest.fixture
def slides(tmp_path):
    """A manifest of 180 slides of 90 patients, and their features; two slides of another scanner beside them."""
    rng = np.random.default_rng(0)
    (tmp_path / "features").mkdir()
    rows = []
    for case in range(180):
        write_bag(tmp_path / f"features/s{case}.h5", rng.normal(0, 1, (int(rng.integers(5, 30)), 6)))
        split = "train" if case < 110 else "val" if case < 160 else "test"
        rows.append((f"s{case}", f"s{case}.tif", f"p{case // 2}", split, case % 3 % 2))
    pd.DataFrame(rows, columns=["id", "path", "patient", "split", "tumor"]).to_csv(
        tmp_path / "manifest.csv", index=False
    )
    (tmp_path / "others").mkdir()
    write_bag(tmp_path / "others/shifted.h5", rng.normal(3, 1, (20, 6)))
    write_bag(tmp_path / "others/alike.h5", rng.normal(0, 1, (200, 6)))
    return read_manifest(tmp_path / "manifest.csv"), tmp_path / "features"


@pytest.mark.parametrize("unit", [None, "patient"])
def test_a_slide_of_another_scanner_is_flagged(slides, unit, tmp_path):
    manifest, features = slides
    model = train_mil(RECIPE, manifest, features, tmp_path / "run", unit)
    record = load_any_card(model).data[RECORD]
    if unit:
        assert record == {"none": "55 training cases, fewer than 100"} and not (model / FILE).exists()
        return
    assert record == {"rate": pytest.approx(1 / 26), "training_cases": 110, "validation_patients": 25}
    own = pd.read_csv(tmp_path / "run/predictions.csv")
    assert own.get("warning", pd.Series("", own.index)).fillna("")[own["split"] == "val"].eq("").all()
    table = load(model).predict([tmp_path / "others"]).set_index("id")
    assert table.loc["shifted", "warning"].startswith("out of distribution: its features are unlike")
    assert table.loc["alike", "warning"] == "" and (table["status"] == "ok").all()
    rows = pd.DataFrame({"id": ["shifted", "alike"], "path": ["shifted.tif", "alike.tif"], "patient": ["a", "b"]})
    rows.assign(split="test").to_csv(tmp_path / "new.csv", index=False)
    found = predict_slides(Request(model, [str(tmp_path / "new.csv")], tmp_path / "p.csv", tmp_path / "others"))
    assert found.set_index("id").loc["shifted", "warning"] == table.loc["shifted", "warning"]
    (model / FILE).unlink()
    with pytest.raises(UserError, match="missing, so no case could be flagged"):
        load(model)


def test_a_bag_that_cannot_be_read_is_left_out_of_the_limit(slides, tmp_path):
    manifest, features = slides
    (features / "s120.h5").write_bytes(b"none")
    model = train_mil(replace(RECIPE, aggregator="max"), manifest, features, tmp_path / "run")
    record = load_any_card(model).data[RECORD]
    assert record["validation_patients"] == 25  # the other slide of the patient counts
