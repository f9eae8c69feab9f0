"""Distillation: stored views, teachers' answers on the disk, the loss by its formula, the command from end to end."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.cli import main
from clinvit.core.errors import RunError, UserError
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.datasets.transforms.views import TrainView
from clinvit.engine.recipe import to_yaml
from clinvit.finetune.distil import _Numbered, case_seed, feature_loss, taught_loss
from clinvit.finetune.distil_recipe import Distil, distilling
from clinvit.finetune.model import ModelCard, build_model, load_card, load_model, save_model
from clinvit.finetune.run import finetune
from clinvit.finetune.teacher_answers import INDEX, RECORDS, Shape, make_answers
from clinvit.stages.distil import distil_stage
from torch import nn
from torch.nn import functional as F


@pytest.fixture
def teacher(cohort, small_recipes, tmp_path):
    """A model folder of Square and Bar that has learned a little."""
    recipe = replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=2))
    return finetune(recipe, read_manifest(cohort(patients=20)), tmp_path / "teacher", tmp_path / "cache")


def student(small_recipes, **fields) -> Distil:
    recipe, _ = distilling(small_recipes[1])
    return replace(recipe, views=2, optim=replace(recipe.optim, epochs=2), **fields)


def another(folder, to, labels, seed=1):
    """A model folder with other random weights, for other labels, that sees larger images."""
    card = load_card(folder)
    arch = replace(card.arch, image_size=(40, 40))
    card = replace(card, labels=labels, arch=arch, thresholds={}, calibration={})
    torch.manual_seed(seed)
    save_model(to, build_model(card), card)
    shutil.copy(folder / "trained_on.txt", to)
    return to


def test_the_loss_of_the_teachers_is_the_formula():
    torch.manual_seed(0)
    logits, teachers, t = torch.randn(5, 3), torch.randn(5, 2, 3), 2.5
    mean = (teachers / t).sigmoid().mean(dim=1)
    wanted = t**2 * F.binary_cross_entropy_with_logits(logits / t, mean)
    torch.testing.assert_close(taught_loss(logits, teachers, t, False), wanted)
    mean = (teachers / t).softmax(dim=2).mean(dim=1)
    wanted = -(t**2) * (mean * (logits / t).log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(taught_loss(logits, teachers, t, True), wanted)


def test_a_label_that_one_teacher_knows_is_that_teachers_and_one_that_none_knows_is_left_out():
    torch.manual_seed(0)
    logits, teachers = torch.randn(4, 3), torch.randn(4, 2, 3)
    teachers[:, 1, 0] = torch.nan
    teachers[:, :, 2] = torch.nan
    known = torch.stack([teachers[:, 0, 0].sigmoid(), teachers[:, :, 1].sigmoid().mean(dim=1)], dim=1)
    wanted = F.binary_cross_entropy_with_logits(logits[:, :2], known)
    torch.testing.assert_close(taught_loss(logits, teachers, 1.0, False), wanted)


def test_the_loss_of_features_is_one_minus_the_cosine_averaged_over_teachers():
    torch.manual_seed(0)
    features, teachers = torch.randn(4, 6), torch.randn(4, 7)
    projections = nn.ModuleList([nn.Linear(6, 3), nn.Linear(6, 4)])
    each = [
        1 - F.cosine_similarity(projections[0](features), teachers[:, :3]),
        1 - F.cosine_similarity(projections[1](features), teachers[:, 3:]),
    ]
    torch.testing.assert_close(feature_loss(features, teachers, projections), torch.stack(each).mean())


def test_a_student_of_a_student_reaches_its_teachers_logits():
    torch.manual_seed(0)
    x, teacher, pupil = torch.randn(256, 4), nn.Linear(4, 2), nn.Linear(4, 2)
    optimizer = torch.optim.LBFGS(pupil.parameters(), max_iter=200, tolerance_grad=1e-9)
    with torch.no_grad():
        answers = teacher(x).unsqueeze(1)

    def step():
        optimizer.zero_grad()
        loss = taught_loss(pupil(x), answers, 1.0, False)
        loss.backward()
        return loss

    optimizer.step(step)
    torch.testing.assert_close(pupil(x), answers[:, 0], atol=1e-3, rtol=0)


def test_a_stored_view_is_made_again_byte_for_byte_and_a_larger_teacher_sees_the_same_crop(small_recipes):
    recipe = small_recipes[1]
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 255, (10, 10)), np.ones((8, 8))).astype(np.uint8)
    view = _Numbered(TrainView(recipe.augment, recipe.data.clip, 1))
    large = TrainView(replace(recipe.augment, size=64), recipe.data.clip, 1)
    for number in range(5):
        seed = case_seed(0, "case-7") | number
        first, second = view(image, seed), view(image, seed)
        assert first["image"].tobytes() == second["image"].tobytes()
        assert first["view"].tolist() == [number]
        shrunk = large(image, seed).reshape(1, 1, 32, 2, 32, 2).mean(axis=(3, 5))
        other = large(image, case_seed(0, "case-8") | number).reshape(1, 1, 32, 2, 32, 2).mean(axis=(3, 5))
        assert np.abs(shrunk - first["image"]).mean() < 0.5 * np.abs(other - first["image"]).mean()


def test_answers_are_made_once_and_damaged_or_unfinished_ones_anew(tmp_path, capsys):
    shape, calls = Shape(views=2, teachers=1, labels=2, widths=(3,)), []

    def answer(row: int) -> np.ndarray:
        calls.append(row)
        record = np.zeros(2, shape.dtype)
        record["logits"] = row
        record["features"] = row + 0.5
        return record

    keys = {0: "a", 2: "c", 3: "d"}
    made, reasons = make_answers(tmp_path / "t", shape, keys, 4, answer, progress=False)
    assert calls == [0, 2, 3] and not reasons and made.rows().tolist() == [0, 2, 3]
    logits, features = made.read([3, 2], [1, 0])
    assert logits[:, 0].tolist() == [[3, 3], [2, 2]] and features[0].tolist() == [3.5] * 3
    again, _ = make_answers(tmp_path / "t", shape, keys, 4, answer, progress=False)
    assert calls == [0, 2, 3]
    path = tmp_path / "t" / RECORDS
    content = bytearray(path.read_bytes())
    content[shape.size + 3] ^= 1  # a flipped bit in the record of row 2
    path.write_bytes(content + b"half a rec")  # and a killed write
    with (tmp_path / "t" / INDEX).open("ab") as index:
        index.write(b'["e", 17')
    again, _ = make_answers(tmp_path / "t", shape, keys | {1: "b"}, 4, answer, progress=False)
    assert sorted(calls[3:]) == [1, 2]
    assert "1 answers have changed" in capsys.readouterr().err
    logits, _ = again.read([0, 1, 2, 3], [0, 1, 0, 1])
    assert logits[:, 0, 0].tolist() == [0, 1, 2, 3]


def test_a_student_of_two_teachers_is_a_model_like_any_other(cohort, small_recipes, teacher, tmp_path):
    data = tmp_path / "data" / "manifest.csv"
    second = another(teacher, tmp_path / "second", ("Bar",))
    recipe = student(small_recipes)
    folder = distil_stage(recipe, data, tmp_path / "run", [teacher, second], cache=tmp_path / "cache")
    card = load_card(folder)
    assert card.labels == ("Square", "Bar") and len(card.data["teachers"]) == 2
    unknown = int(np.isnan(read_manifest(data).rows("train").targets()).sum())
    assert card.data["labels_from_teachers_alone"] == unknown > 0
    model, _ = load_model(folder)
    assert not any("projections" in name for name, _ in model.named_parameters())
    log = pd.read_csv(tmp_path / "run" / "log.csv")
    assert {"loss_labels", "loss_teachers", "loss_features"} <= set(log.columns)
    assert (read_predictions(tmp_path / "run" / "predictions.csv").table["status"] == "ok").all()
    own = set((folder / "trained_on.txt").read_text().split())
    assert set((teacher / "trained_on.txt").read_text().split()) <= own
    assert not (folder / "pretrained_on.txt").exists()  # the second teacher does not say


def test_cases_and_manifests_without_labels_are_learned_from_the_teachers(cohort, small_recipes, teacher, tmp_path):
    table = pd.read_csv(tmp_path / "data" / "manifest.csv")[["id", "path", "patient", "split"]]
    table.to_csv(tmp_path / "data" / "bare.csv", index=False)
    recipe = student(small_recipes, select="last")
    folder = distil_stage(recipe, tmp_path / "data" / "bare.csv", tmp_path / "run", [teacher], cache=tmp_path / "cache")
    card = load_card(folder)
    assert card.labels == ("Square", "Bar")
    cases = (table["split"] == "train").sum()
    assert card.data["labels_from_teachers_alone"] == 2 * cases
    table.assign(Square=0).to_csv(tmp_path / "data" / "one.csv", index=False)  # one label is there, the other is not
    recipe = replace(recipe, data=replace(recipe.data, labels=("Square", "Bar")))
    folder = distil_stage(recipe, tmp_path / "data" / "one.csv", tmp_path / "two", [teacher], cache=tmp_path / "cache")
    assert load_card(folder).data["labels_from_teachers_alone"] == cases


def test_interrupted_and_resumed_equals_never_interrupted(cohort, small_recipes, teacher, tmp_path, monkeypatch):
    recipe, data = student(small_recipes), tmp_path / "data" / "manifest.csv"
    whole = distil_stage(recipe, data, tmp_path / "whole", [teacher], cache=tmp_path / "one")
    from clinvit.finetune import teacher_answers
    from clinvit.finetune.distil import Distilling

    calls, append = [], teacher_answers._append

    def broken(*given):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return append(*given)

    monkeypatch.setattr(teacher_answers, "_append", broken)
    with pytest.raises(KeyboardInterrupt):
        distil_stage(recipe, data, tmp_path / "parts", [teacher], cache=tmp_path / "two")
    loss, steps = Distilling.loss, []

    def stopping(self, batch):
        steps.append(1)
        if self.current_epoch == 1:
            raise RunError("stopped")
        return loss(self, batch)

    monkeypatch.setattr(Distilling, "loss", stopping)
    with pytest.raises(RunError, match="stopped"):
        distil_stage(recipe, data, tmp_path / "parts", [teacher], cache=tmp_path / "two")
    monkeypatch.setattr(Distilling, "loss", loss)
    parts = distil_stage(recipe, data, tmp_path / "parts", [teacher], cache=tmp_path / "two")
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    cases = (pd.read_csv(data)["split"] == "train").sum()
    assert len(calls) == cases + 1, "no case was answered twice"


def test_the_command_distils_and_says_what_it_leaves_out(cohort, small_recipes, teacher, tmp_path, capsys):
    config = tmp_path / "student.yaml"
    config.write_text(to_yaml(replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=2))))
    places = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    base = ["distil", "images", *places, "--config", str(config)]
    assert main([*base, "--teacher", str(tmp_path / "teacher"), "--size", "mini", "--views", "2"]) == 0
    out = capsys.readouterr().out
    assert "teacher " in out and "model: " in out
    card = load_card(tmp_path / "run" / "model")
    assert card.recipe["views"] == 2 and card.arch.width == 192
    assert main(["distil", "images", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "x")]) == 2
    assert "--teacher is missing" in capsys.readouterr().err
    assert main(["distil", "slides", "--data", "x", "--out", "y", "--teacher", "z"]) == 2
    assert "not for bags of slides" in capsys.readouterr().err


def test_what_cannot_teach_is_refused(cohort, small_recipes, teacher, tmp_path):
    data, recipe = tmp_path / "data" / "manifest.csv", student(small_recipes)
    other = another(teacher, tmp_path / "other", ("Fracture",))
    with pytest.raises(UserError, match="a teacher of Fracture, and none of these is a label here"):
        distil_stage(recipe, data, tmp_path / "run", [other])
    colour = replace(recipe, model=replace(recipe.model, channels=3))
    with pytest.raises(UserError, match="a teacher of grey images"):
        distil_stage(colour, data, tmp_path / "run", [teacher])
    with pytest.raises(UserError, match="unchanged views"):
        replace(recipe, mixup=0.8)
    with pytest.raises(UserError, match="not a model folder"):
        distil_stage(recipe, data, tmp_path / "run", [tmp_path / "data"])
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_an_ordinary_recipe_becomes_one_of_a_student_and_says_what_it_lost(small_recipes):
    recipe, left_out = distilling(replace(small_recipes[1], mixup=0.8, erase=0.25))
    assert left_out == ["mixup 0.8", "erase 0.25"]
    assert (recipe.mixup, recipe.erase) == (0, 0)
    assert isinstance(recipe, Distil) and ModelCard.card_file == "model.json"


def test_a_file_that_cannot_be_read_is_named_and_left_out(cohort, small_recipes, teacher, tmp_path, capsys):
    data = tmp_path / "data" / "manifest.csv"
    (tmp_path / "data" / "images" / "001_1.png").write_bytes(b"broken")
    recipe = student(small_recipes, data=replace(small_recipes[1].data, cache=False), alpha=0.0, beta=0.0)
    recipe = replace(recipe, run=replace(recipe.run, max_bad=0.1))
    folder = distil_stage(recipe, data, tmp_path / "run", [teacher], cache=tmp_path / "other")
    assert "left out of training" in capsys.readouterr().err
    assert "001_1" in (tmp_path / "run" / "unreadable.csv").read_text()
    assert load_card(folder).mode == "full"
    with pytest.raises(UserError, match="cannot be read, more than the allowed share 0"):
        distil_stage(replace(recipe, run=replace(recipe.run, max_bad=0.0)), data, tmp_path / "no", [teacher])
