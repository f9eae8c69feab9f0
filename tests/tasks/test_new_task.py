"""Adding a task is one folder: a toy task that stands outside of the package walks from data to report."""

import importlib
import json
import sys

import clinvit.tasks
import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from PIL import Image

TASK = '''
"""The toy task: which shape is bright."""

from dataclasses import replace
from typing import ClassVar

from clinvit.backbone.sizes import Model
from clinvit.datasets.manifest.layouts import Layout
from clinvit.datasets.settings import Data
from clinvit.datasets.transforms.augment import Augment
from clinvit.engine.recipe import Optim, Run
from clinvit.finetune.recipe import Finetune, View
from clinvit.pretrain.recipe import Decoder, Pretrain
from clinvit.stages.task import ImageTask


def read(root, *, seed: int = 0):
    """Read shapes.txt.

    Args:
        root: Its folder.
        seed: Unused by this layout, but shown in help.
    """
    import pandas as pd

    lines = [line.split() for line in (root / "shapes.txt").read_text().splitlines()]
    table = pd.DataFrame(lines, columns=["path", "patient", "split", "Square"])
    return table.assign(id=table["path"].str.removesuffix(".png"), Square=table["Square"].astype(float)), ("Square",)


MODEL = Model("micro", image_size=32, patch_size=8)
RUN = Run(precision="32-true", checkpoint_minutes=0)
AUGMENT = Augment(size=32, crop_scale=(0.6, 1.0))
OPTIM = Optim(epochs=3, warmup_epochs=1, batch_size=16, base_lr=0.01)


def pretrain_tiny():
    """Three epochs."""
    return Pretrain(
        model=MODEL, decoder=Decoder(32, 1, 2), data=Data(cache_px=40), augment=AUGMENT, optim=OPTIM, run=RUN
    )


def finetune_tiny():
    """Fifteen epochs."""
    optim = replace(OPTIM, epochs=15, betas=(0.9, 0.999), base_lr=0.02)
    return Finetune(
        model=MODEL, data=Data(cache_px=40), augment=AUGMENT, view=View("squash", None), optim=optim, run=RUN
    )


class Toy(ImageTask):
    """Bright squares."""

    name = "toy"
    summary = "bright squares"
    recipes: ClassVar = {"pretrain": {"tiny": pretrain_tiny}, "finetune": {"tiny": finetune_tiny}}

    def layouts(self):
        found = lambda root: (root / "shapes.txt").is_file()
        return {"shapes": Layout(found, read, "shapes.txt", "1 = the square is bright")}


TASK = Toy()
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Add the folder `toy` to the tasks; gives a folder of its data."""
    (tmp_path / "more/toy").mkdir(parents=True)
    (tmp_path / "more/toy/__init__.py").write_text('"""A toy."""\n')
    (tmp_path / "more/toy/task.py").write_text(TASK)
    monkeypatch.setattr(clinvit.tasks, "__path__", [*clinvit.tasks.__path__, str(tmp_path / "more")])
    importlib.invalidate_caches()
    clinvit.tasks.names.cache_clear()
    rng, lines, root = np.random.default_rng(0), [], tmp_path / "data"
    root.mkdir()
    for number in range(80):
        bright = int(rng.integers(0, 2))
        pixels = rng.normal(110, 25, (40, 40))
        pixels[8:24, 4:20] += 90 * bright
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{number:02d}.png")
        lines.append(f"{number:02d}.png p{number} {('train', 'train', 'train', 'val', 'test')[number % 5]} {bright}")
    (root / "shapes.txt").write_text("\n".join(lines))
    yield root
    clinvit.tasks.names.cache_clear()
    for name in [name for name in sys.modules if name.startswith("clinvit.tasks.toy")]:
        del sys.modules[name]


@pytest.mark.slow
def test_a_new_folder_walks_from_data_to_report(toy, tmp_path, capsys):
    run = lambda *arguments: main([str(argument) for argument in arguments])
    data, out = tmp_path / "manifest.csv", tmp_path / "runs"
    with pytest.raises(SystemExit):
        main(["prepare", "toy", "--help"])
    text = capsys.readouterr().out
    assert "shapes.txt" in text and "seed (0): Unused by this layout" in text and "toy" in text
    assert run("check", "toy", toy) == 0
    assert run("prepare", "toy", toy, "--out", data) == 0
    assert run("pretrain", "toy", "--data", data, "--out", out / "mae") == 0
    assert run("finetune", "toy", "--data", data, "--encoder", out / "mae/encoder", "--out", out / "ft") == 0
    assert run("predict", "toy", "--model", out / "ft/model", data, "--out", tmp_path / "all.csv") == 0
    assert len(pd.read_csv(tmp_path / "all.csv")) == 80
    assert run("evaluate", out / "ft", "--data", data, "--out", tmp_path / "report", "--resamples", 100) == 0
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["models"][0]["macro"]["auroc"]["value"] > 0.8, "it learned"
    assert (tmp_path / "report/report.html").is_file()
