"""What holds a training up here: measured on real files and a real model, and said in plain words."""

from dataclasses import replace

import pytest
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.stages import bottleneck as module
from clinvit.stages.bottleneck import Rates, bottleneck, measure, verdict
from clinvit.tasks import load


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.05)


def test_check_says_what_will_hold_a_run_up(cohort, capsys):
    assert main(["check", "thorax", str(cohort(size=160)), "--files", "3", "--recipe", "tiny"]) == 0
    out = capsys.readouterr().out
    assert "pretrain --recipe tiny: one core decodes" in out
    assert "is the bottleneck: loading takes " in out
    assert main(["check", "thorax", str(cohort(folder="two")), "--recipe", "vit_x"]) == 2
    assert "--recipe 'vit_x': known are demo, tiny, vit_s" in capsys.readouterr().err


@pytest.mark.parametrize("stage", [0, 1], ids=["pretrain", "finetune"])
@pytest.mark.parametrize("kind", ["images", "clips"])
def test_both_stages_and_kinds_are_measured(request, kind, stage):
    clips = kind == "clips"
    manifest = read_manifest(request.getfixturevalue("clip_cohort" if clips else "cohort")())
    recipe = request.getfixturevalue("small_clip_recipes" if clips else "small_recipes")[stage]
    rates = measure(recipe, manifest, "cpu")
    assert all(0 < value < 1e6 for value in (rates.decoded, rates.loaded, rates.consumed))


def test_the_slower_one_is_named(monkeypatch):
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    monkeypatch.setattr(module, "reading_workers", lambda _: 4)
    slow_steps, fast_steps = Rates(20.0, 500.0, 400.0), Rates(20.0, 500.0, 2600.0)
    _, words = verdict(slow_steps, "x", "cuda", 48_000)
    assert words.startswith("computing is the bottleneck: 4 loading processes give 2,000 cases/s; before the first")
    assert "48000 files are decoded, about 10 min on 4 cores" in words
    _, words = verdict(fast_steps, "x", "cuda", 48_000)
    assert words.startswith("loading is the bottleneck: 4 loading processes give 2,000 cases/s, 6 would keep up")
    _, words = verdict(slow_steps, "x", "cuda", 48_000, cached=False)
    assert words.startswith("loading is the bottleneck: 4 loading processes give 77 cases/s, 21 would keep up")
    assert "before the first" not in words
    _, words = verdict(slow_steps, "x", "cpu", 48)
    assert "less than a minute" in words


def test_what_cannot_be_measured_is_refused(cohort):
    manifest = read_manifest(cohort(), ())
    with pytest.raises(UserError, match="tiles of slides"):
        bottleneck(load("slides"), manifest, "tiny")
    with pytest.raises(UserError, match="fine-tuning needs labels"):
        bottleneck(load("thorax"), manifest, "resnet18")
    manifest = replace(manifest, table=manifest.table.assign(path="images/gone.png"))
    with pytest.raises(UserError, match=r"gone\.png"):
        bottleneck(load("thorax"), manifest, "tiny")
