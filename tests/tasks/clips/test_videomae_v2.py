"""General video in lists of `path label`: VideoMAE V2's own recipe, small, to top-1 and top-5 over several views."""

import json

import numpy as np
import pytest
from clinvit.cli import main
from clinvit.datasets.manifest.tables import read_predictions
from clinvit.finetune.model import load_card
from PIL import Image

COLOURS = ("red", "lime", "blue", "yellow", "magenta", "cyan")


def write_lists(root, clips: int) -> None:
    """Moving discs of six colours; a blank in every path, and GIFs that are called mp4."""
    rng, lines = np.random.default_rng(0), {"train": [], "val": []}
    (root / "some clips").mkdir(parents=True)
    for number in range(clips):
        label = number % len(COLOURS)
        frames = []
        start, step = rng.integers(0, 20, 2), rng.integers(-2, 3, 2)
        for frame in range(12):
            image = Image.fromarray(rng.integers(0, 60, (36, 48, 3), np.uint8))
            left, top = (start + frame * step) % 24
            image.paste(COLOURS[label], (int(left), int(top), int(left) + 14, int(top) + 12))
            frames.append(image)
        name = f"some clips/{number:03d}.mp4"
        frames[0].save(root / name, format="GIF", save_all=True, append_images=frames[1:], duration=40)
        lines["val" if number % 4 == 3 else "train"].append(f"{name} {label}")
    for split, rows in lines.items():
        (root / f"{split}.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.thorough
@pytest.mark.slow
def test_a_list_trains_and_evaluates_with_the_official_recipe(tmp_path):
    write_lists(tmp_path / "lists", 96)
    run = lambda *arguments: main([str(argument) for argument in arguments])
    data = tmp_path / "manifest.csv"
    assert run("prepare", "clips", tmp_path / "lists", "--out", data) == 0
    options = (
        "--model.size micro --model.image_size 32 --model.frames 4 --model.patch_size 16 --augment.size 32 "
        "--view.resize_px 32 --view.segments 2 --data.cache_px 36 --data.clip.stride 2 --mixup 0 --cutmix 0 "
        "--model.drop_path 0 --augment.randaug null --augment.crop_scale [0.6,1] --optim.batch_size 24 "
        "--optim.base_lr 0.03 --optim.layer_decay 1 --optim.epochs 16 --eval_every 8 --run.checkpoint_minutes 0"
    ).split()
    out = tmp_path / "run"
    assert run("finetune", "clips", "--recipe", "v2_base_k400", "--data", data, "--out", out, *options) == 0
    card = load_card(out / "model")
    assert card.exclusive and len(card.labels) == 6 and len(card.views()) == 2 * 3 and card.arch.channels == 3
    table = read_predictions(out / "predictions.csv")
    np.testing.assert_allclose(table.scores().sum(axis=1), 1, atol=1e-5)
    report = tmp_path / "report"
    assert run("evaluate", out, "--split", "val", "--out", report, "--resamples", 200) == 0
    metrics = {}
    for line in (report / "metrics.csv").read_text().splitlines()[1:]:
        cells = line.split(",")
        metrics.setdefault(cells[2], cells[3])
    assert float(metrics["classes_accuracy"]) > 0.4, "six classes: chance is 0.17"
    assert float(metrics["classes_top5_accuracy"]) >= float(metrics["classes_accuracy"])
    assert json.loads((report / "report.json").read_text())["models"]
