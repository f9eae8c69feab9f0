"""Classes that differ in hue alone are learned in colour, and in grey the command says what is lost."""

import numpy as np
import pandas as pd
from clinvit.cli import main
from clinvit.finetune.model import load_card
from PIL import Image
from sklearn.metrics import roc_auc_score

SMALL = (
    "--recipe tiny --model.size micro --model.image_size 32 --augment.size 32 --model.patch_size 8 --data.cache_px 40 "
    "--optim.epochs 6 --optim.warmup_epochs 1 --optim.batch_size 16 --run.precision 32-true --run.workers 0"
).split()
RED, GREEN = np.array([220, 10, 20]), np.array([14, 115, 18])  # the same luma


def write_hues(folder, patients: int = 60):
    """Textures in red (label 1) or in green (0) of the same luma; gives the manifest's path."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for patient in range(patients):
        red = int(rng.integers(0, 2))
        strength = rng.uniform(0.5, 1.0, (40, 40, 1))
        pixels = (strength * (RED if red else GREEN)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{patient}.png")
        rows.append(
            (patient, f"{patient}.png", f"p{patient}", ("train", "train", "train", "val", "test")[patient % 5], red)
        )
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", "Red"])
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def auroc(out) -> float:
    table = pd.read_csv(out / "predictions.csv")
    return roc_auc_score(table["y_Red"], table["p_Red"])


def test_hues_are_learned_with_three_channels_only(tmp_path, capsys):
    data = write_hues(tmp_path / "hues")
    run = ["finetune", "thorax", "--data", str(data), "--cache", str(tmp_path / "cache"), *SMALL, "--out"]
    assert main([*run, str(tmp_path / "colour"), "--model.channels", "3"]) == 0
    assert "in colour" not in capsys.readouterr().out
    assert load_card(tmp_path / "colour" / "model").reader().channels == 3
    assert auroc(tmp_path / "colour") > 0.95
    assert main([*run, str(tmp_path / "grey")]) == 0
    assert "60 of 60 files are in colour and are read as grey; --model.channels 3" in capsys.readouterr().out
    assert auroc(tmp_path / "grey") < 0.8
    # Files as they come are read the same way.
    out = str(tmp_path / "new.csv")
    assert main(["predict", "thorax", "--model", str(tmp_path / "colour" / "model"), "--out", out, str(data)]) == 0
    table = pd.read_csv(out)
    assert roc_auc_score(pd.read_csv(data)["Red"], table["p_Red"]) > 0.95


def test_the_other_verbs_say_it_too(tmp_path, capsys):
    data = write_hues(tmp_path / "hues", 20)
    assert main(["check", "thorax", str(data)]) == 0
    assert "20 of 20 files are in colour and are read as grey" in capsys.readouterr().out
    steps = ["--optim.batch_size", "12", "--optim.epochs", "1", "--optim.warmup_epochs", "0"]
    assert main(["pretrain", "thorax", "--data", str(data), "--out", str(tmp_path / "mae"), *SMALL, *steps]) == 0
    assert "12 of 12 files are in colour" in capsys.readouterr().out
