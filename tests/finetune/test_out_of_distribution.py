"""Cases unlike those of training: how often the limit flags what is like them, and what a user sees of what is not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit import load
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.finetune.model import load_model
from clinvit.finetune.out_of_distribution import FILE, RECORD, fit_limit, read_limit
from clinvit.finetune.run import finetune
from clinvit.stages.predict import Request, predict_stage
from PIL import Image
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf


def test_cases_like_those_of_validation_are_flagged_at_the_stated_rate():
    generator, flagged = np.random.default_rng(0), []
    mix = generator.normal(size=(12, 12))
    for _ in range(60):
        training, validation, new = (generator.standard_t(5, size=(n, 12)) @ mix for n in (300, 199, 500))
        limit = fit_limit(training, validation, [f"p{i}" for i in range(199)])
        assert limit.rate == 0.01 and (limit.training, limit.patients) == (300, 199)
        flagged.append((limit.distances(new) > limit.limit).mean())
    assert np.mean(flagged) == pytest.approx(0.01, abs=0.004)
    assert (limit.distances(new + 30 * mix[0]) > limit.limit).all()


def test_distances_are_those_of_mahalanobis_with_a_shrunk_covariance():
    generator = np.random.default_rng(1)
    training, validation = generator.normal(size=(120, 40)) * 3 + 1, generator.normal(size=(30, 40))
    limit = fit_limit(training, validation, [str(i) for i in range(30)])
    inverse = np.linalg.inv(LedoitWolf().fit(training).covariance_)
    expected = [mahalanobis(row, training.mean(axis=0), inverse) for row in validation]
    assert limit.distances(validation) == pytest.approx(expected)
    assert limit.rate == pytest.approx(1 / 31)  # the smallest that 30 patients can promise
    assert limit.limit == pytest.approx(max(expected), rel=2e-3) and limit.limit > max(expected)


def test_images_of_one_patient_count_once():
    generator = np.random.default_rng(2)
    training, validation = generator.normal(size=(150, 3)), generator.normal(size=(300, 3))
    limit = fit_limit(training, validation, [f"p{i // 10}" for i in range(300)])
    assert limit.rate == pytest.approx(1 / 31) and limit.patients == 30


def test_where_there_are_too_few_cases_it_is_said():
    generator = np.random.default_rng(3)
    many, names = generator.normal(size=(200, 4)), [f"p{i}" for i in range(200)]
    assert fit_limit(many[:99], many, names) == "99 training cases, fewer than 100"
    assert fit_limit(many, many[:40], ["one", "two"] * 20) == "2 validation patients, fewer than 19"
    assert "equal" in fit_limit(np.ones((200, 4)), many, names)
    gaps = np.where(np.arange(200)[:, None] < 150, np.nan, many)  # cases that failed have no features
    assert fit_limit(gaps, many, names) == "50 training cases, fewer than 100"


@pytest.fixture
def run(cohort, small_recipes, tmp_path):
    path = cohort(patients=100)
    recipe = replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=2))
    finetune(recipe, read_manifest(path), tmp_path / "run", tmp_path / "cache")
    return tmp_path / "run", path


def test_a_model_keeps_its_limit_and_flags_other_images(run, tmp_path):
    folder, manifest = run
    model = folder / "model"
    _, card = load_model(model)
    assert card.data[RECORD] == {
        "rate": pytest.approx(1 / 21), "training_cases": 120, "validation_patients": 20,
    }  # fmt: skip
    predict_stage(Request(model, [str(manifest)], tmp_path / "again.csv"))
    again = pd.read_csv(tmp_path / "again.csv").set_index("id")
    own = pd.read_csv(folder / "predictions.csv").set_index("id")
    assert "warning" not in own or own.loc[own["split"] == "val", "warning"].isna().all()
    assert own.get("warning", pd.Series("", own.index)).fillna("").ne("").mean() < 0.2
    assert np.allclose(again.loc[own.index, "p_Square"], own["p_Square"], atol=1e-5)
    (tmp_path / "others").mkdir()
    stripes = np.tile(np.repeat([0, 255], 4), (40, 5)).astype(np.uint8)
    Image.fromarray(stripes).save(tmp_path / "others" / "stripes.png")
    Image.fromarray(np.full((40, 40), 200, np.uint8)).save(tmp_path / "others" / "flat.png")
    (tmp_path / "others" / "broken.png").write_bytes(b"none")
    predict_stage(Request(model, [str(tmp_path / "others")], tmp_path / "others.csv"))
    found = pd.read_csv(tmp_path / "others.csv").set_index("id").rename(index=lambda name: name.partition(".")[0])
    assert found.loc["stripes", "warning"].startswith("out of distribution: its features are unlike")
    assert found.loc["stripes", "status"] == "ok" and found.loc["stripes", "p_Square"] >= 0
    assert "; out of distribution" in found.loc["flat", "warning"]  # beside the remark that all pixels are equal
    assert found.loc["broken", "status"] == "failed" and pd.isna(found.loc["broken", "warning"])
    table = load(model).predict([stripes])
    assert table["warning"].iloc[0] == found.loc["stripes", "warning"]


def test_a_limit_that_is_damaged_missing_or_of_other_weights_is_refused(run):
    folder, _ = run
    model = folder / "model"
    network, card = load_model(model)
    whole = (model / FILE).read_bytes()
    (model / FILE).unlink()
    with pytest.raises(UserError, match="missing, so no case could be flagged"):
        read_limit(model, card, network)
    (model / FILE).write_bytes(whole[:-100])
    with pytest.raises(UserError, match=FILE):
        read_limit(model, card, network)
    (model / FILE).write_bytes(whole)
    weights = model / card.weights_file
    weights.write_bytes(weights.read_bytes() + b"\0")
    with pytest.raises(UserError, match="made for other weights"):
        read_limit(model, card, network)
