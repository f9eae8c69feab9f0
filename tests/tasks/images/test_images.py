"""The neutral task for images: a folder per class, in colour, from check to predictions."""

import colorsys
import json

import numpy as np
import pytest
from clinvit.cli import main
from clinvit.datasets.manifest.tables import read_predictions
from PIL import Image

SMALL = (
    "--model.size micro --model.image_size 32 --model.patch_size 8 --augment.size 32 --data.cache_px 40 --patch_drop 0 "
    "--optim.batch_size 16 --optim.epochs 15 --optim.warmup_epochs 1 --run.checkpoint_minutes 0"
).split()


def run(capsys, *arguments) -> tuple[int, str]:
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return code, output.out + output.err


@pytest.fixture
def folders(tmp_path):
    """Images of two hues of one luminance, a folder each: grey copies of them are alike."""
    rng = np.random.default_rng(0)
    for name, hue in (("green", 0.33), ("violet", 0.8)):
        colour = np.array(colorsys.hsv_to_rgb(hue, 0.6, 1.0))
        colour *= 0.5 / (colour @ (0.299, 0.587, 0.114))
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(50):
            grain = rng.normal(0, 0.06, (40, 40, 1))
            pixels = np.rint((colour.clip(0, 1) + grain).clip(0, 1) * 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number:02d}.png")
    return tmp_path / "data"


@pytest.mark.slow
def test_classes_that_differ_in_hue(folders, tmp_path, capsys):
    own = ["--option", "each_file_own_patient=true"]
    code, text = run(capsys, "check", "images", folders, *own)
    assert code == 0 and "read as grey" not in text, text
    assert run(capsys, "prepare", "images", folders, "--out", tmp_path / "manifest.csv", *own)[0] == 0
    data = ["--data", tmp_path / "manifest.csv", "--cache", tmp_path / "cache"]
    code, text = run(capsys, "finetune", "images", *data, "--out", tmp_path / "colour", *SMALL)
    assert code == 0 and "read as grey" not in text, text
    masked = ["--model.size", "micro", "--model.image_size", 32, "--model.patch_size", 8, "--augment.size", 32]
    masked += ["--data.cache_px", 40, "--optim.epochs", 2, "--optim.warmup_epochs", 1, "--optim.batch_size", 16]
    code, text = run(capsys, "pretrain", "images", *data, "--out", tmp_path / "mae", *masked)
    assert code == 0 and "read as grey" not in text, text
    code, text = run(capsys, "finetune", "images", *data, "--out", tmp_path / "grey", "--model.channels", 1, *SMALL)
    assert code == 0 and "read as grey" in text, text
    right = {}
    for name in ("colour", "grey"):
        test = read_predictions(tmp_path / name / "predictions.csv").rows("test")
        (label,) = test.labels
        right[name] = ((test.table[f"p_{label}"] > 0.5) == (test.table[f"y_{label}"] == 1)).mean()
    assert right["colour"] > 0.9 and right["grey"] < 0.9, right
    predict = ["predict", "images", "--model", tmp_path / "colour/model", "--out", tmp_path / "new.csv", folders]
    code, text = run(capsys, *predict)
    assert code == 0 and "100 requested = 100 ok + 0 failed" in text
    assert json.loads((tmp_path / "colour/model/model.json").read_text())["arch"]["channels"] == 3
