"""The thorax demo with few patients and short trainings: who is labelled, what is compared, what is written."""

from dataclasses import replace
from functools import partial

import pytest
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.eval import Evaluation
from clinvit.tasks.thorax import demo
from clinvit.tasks.thorax.recipes import finetune_demo, finetune_demo_scratch

LABELLED = (16, 32)


def shorter(recipe):
    return replace(recipe, optim=replace(recipe.optim, epochs=1, warmup_epochs=0))


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The demo's folder and the metrics it gives."""
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("pretrain_demo", "finetune_demo", "finetune_demo_scratch"):
            patch.setattr(demo, name, partial(shorter, getattr(demo, name)()))
        evaluate = partial(demo.reporting.evaluate_stage, evaluation=Evaluation(resamples=50))
        patch.setattr(demo.reporting, "evaluate_stage", evaluate)
        metrics = demo.demo(out, seed=3, patients=70, labelled=LABELLED)
    return out, metrics


@pytest.mark.slow
def test_more_labels_hold_the_patients_of_fewer_and_the_rest_is_unlabelled(shown):
    out, _ = shown
    everyone = read_manifest(out / "manifest.csv", tuple(demo.FINDINGS))
    few, more = (read_manifest(out / f"labelled-{count}.csv") for count in LABELLED)
    ids = [set(each.rows("train").table["id"]) for each in (few, more, everyone)]
    assert ids[0] < ids[1] < ids[2]
    for own, count in zip(ids, LABELLED):
        assert count <= len(own) <= count + 3, "whole patients of one to four images"
    for each in (few, more):
        assert set(each.labels) == set(demo.FINDINGS)
        assert set(each.rows("test").table["id"]) == set(everyone.rows("test").table["id"])
        assert not set(each.rows("train").table["patient"]) & set(each.rows("test").table["patient"])


@pytest.mark.slow
def test_the_report_compares_both_at_every_number_of_labels(shown):
    out, metrics = shown
    steps = metrics["efficiency"]["steps"]
    assert len(steps) == len(LABELLED) and metrics["efficiency"]["models"] == list(demo.MODELS)
    for step in steps:
        first, second, gain = (step[key]["value"] for key in ("first", "second", "gain"))
        assert gain == pytest.approx(first - second, abs=1e-5)
    assert 'id="efficiency"' in (out / "report/report.html").read_text(encoding="utf-8")
    tests = read_manifest(out / "labelled-16.csv").rows("test").table["id"]
    for count in LABELLED:
        for name in demo.MODELS:
            rows = read_predictions(out / f"labelled-{count}" / name / "predictions.csv").rows("test")
            assert list(rows.table["id"]) == list(tests)


@pytest.mark.slow
def test_another_seed_labels_other_patients(shown, tmp_path):
    out, _ = shown
    manifest = read_manifest(out / "manifest.csv", tuple(demo.FINDINGS))
    chosen = []
    for seed in (3, 4):
        path, count = demo.labelled_part(manifest, 16, seed, out / f"again-{seed}.csv")
        chosen.append(list(read_manifest(path).rows("train").table["id"]))
        assert len(chosen[-1]) == count
    assert chosen[0] == list(read_manifest(out / "labelled-16.csv").rows("train").table["id"]) != chosen[1]


def test_scratch_has_the_same_network_and_epochs_no_layer_decay_and_all_patches():
    fine, scratch = finetune_demo(), finetune_demo_scratch()
    assert scratch.optim.layer_decay == 1 and scratch.patch_drop == 0
    assert replace(scratch, optim=fine.optim, patch_drop=fine.patch_drop) == fine
    assert scratch.optim.epochs == fine.optim.epochs
