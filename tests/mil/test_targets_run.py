"""Bags whose mean decides a number and a time: aggregators learn them, and what does not go is refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit.api import load
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.engine.recipe import Optim, Run
from clinvit.eval import Evaluation, evaluate
from clinvit.mil.model import load_mil_card
from clinvit.mil.recipe import Cases, Mil
from clinvit.mil.run import train_mil

h5py = pytest.importorskip("h5py")
RECIPE = Mil(
    aggregator="mean",
    optim=Optim(
        epochs=30, warmup_epochs=0, batch_size=4, base_lr=2.56, weight_decay=1e-4, betas=(0.9, 0.999), optimizer="adam"
    ),
    run=Run(precision="32-true", checkpoint_minutes=0),
)
KINDS = {
    "cells": {"kind": "regression"},
    "relapse": {"kind": "survival", "time": "months", "event": "relapsed"},
}


@pytest.fixture
def slides(tmp_path):
    rng, rows = np.random.default_rng(0), []
    (tmp_path / "features").mkdir()
    for case in range(90):
        level = rng.normal()
        features = rng.normal(0, 0.5, (int(rng.integers(5, 12)), 8))
        features[:, 0] += level
        if case != 5:
            with h5py.File(tmp_path / f"features/s{case}.h5", "w") as file:
                file.create_dataset("features", data=features.astype(np.float32)).attrs["encoder"] = "vit"
                file.create_dataset("coords", data=np.zeros((len(features), 2), np.int64)).attrs["tile_um"] = 112.0
        time, censored = rng.exponential(20 * np.exp(-1.5 * level)), rng.uniform(10, 90)
        rows.append(
            (f"s{case}", f"s{case}.tif", f"p{case}", ("train", "val", "test")[case % 3], 100 + 20 * level,
             min(time, censored), int(time <= censored))
        )  # fmt: skip
    columns = ["id", "path", "patient", "split", "cells", "months", "relapsed"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "manifest.csv", index=False)
    (tmp_path / "manifest.json").write_text(json.dumps({"targets": KINDS}))
    return read_manifest(tmp_path / "manifest.csv"), tmp_path / "features"


@pytest.mark.parametrize("aggregator, loss", [("mean", "bce"), ("gated_attention", "bce"), ("mean", "cox")])
def test_slides_learn_a_number_and_a_time(slides, tmp_path, aggregator, loss):
    manifest, features = slides
    folder = train_mil(replace(RECIPE, aggregator=aggregator, loss=loss), manifest, features, tmp_path / "run")
    card = load_mil_card(folder)
    assert [each.loss for each in card.kinds] == ["mse", "cox" if loss == "cox" else "hazards"]
    assert bool(card.kinds[1].baseline) == (loss == "cox")
    table = read_predictions(tmp_path / "run/predictions.csv", targets=True)
    assert table.failed().table["id"].tolist() == ["s5"] and "value_cells" in table.table
    report = evaluate({"run": tmp_path / "run"}, tmp_path / "report", evaluation=Evaluation(resamples=100))
    own = report.metrics.set_index(["label", "metric"])["value"]
    assert own["cells", "concordance"] > 0.8 and own["relapse", "c_harrell"] > 0.65
    again = load(folder).predict(features / "s8.h5")
    here = table.table.set_index("id").loc["s8"]
    np.testing.assert_allclose(
        again[list(card.columns)].iloc[0].to_numpy(float), here[list(card.columns)].to_numpy(float), rtol=1e-4
    )


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"aggregator": "clam_sb"}, "CLAM clusters the instances of findings"),
        ({"balance": "loss"}, "balance is for findings, not for relapse: set --balance none"),
        ({"select": "composite"}, "--select composite is for findings"),
        ({"loss": "cox", "optim": replace(RECIPE.optim, batch_size=1)}, "--loss cox compares the cases of a batch"),
    ],
)
def test_what_does_not_go_with_slides_is_refused(slides, tmp_path, changes, said):
    manifest, features = slides
    recipe = replace(RECIPE, data=Cases(labels=("relapse",)), **changes)
    with pytest.raises(UserError, match=said):
        train_mil(recipe, manifest, features, tmp_path / "run")
