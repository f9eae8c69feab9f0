"""The scripts of `examples/` do what they say, in as few lines as promised."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pandas as pd
import pytest

from .conftest import ROOT

EXAMPLES = ROOT / "examples"


def run(script: str, folder, *words: str) -> str:
    """Run an example as its reader would; give what it prints."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *words], cwd=folder, capture_output=True, text=True, timeout=900,
        check=False, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script, most", [("plain_mae_loop.py", 25), ("own_everything.py", 40)])
def test_they_are_short(script, most):
    lines = (EXAMPLES / script).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= most


def test_a_plain_loop_over_the_masked_autoencoder_learns(tmp_path):
    losses = [float(line.rsplit(" ", 1)[1]) for line in run("plain_mae_loop.py", tmp_path).splitlines()]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_own_parts_from_data_to_report(tmp_path):
    run("own_everything.py", tmp_path)
    table = pd.read_csv(tmp_path / "runs/squares/predictions.csv")
    assert table["split"].value_counts().to_dict() == {"test": 64, "val": 32}
    assert (tmp_path / "runs/squares-report/report.html").is_file()


@pytest.mark.thorough
@pytest.mark.slow
def test_three_hospitals_share_models_alone_and_end_with_one_table(tmp_path):
    run("three_hospitals.py", tmp_path, "--patients", "30", "--epochs", "2")
    table = pd.read_csv(tmp_path / "three_hospitals.csv")
    assert set(table["hospital"]) == {"north", "south", "west"}
    assert set(table["difference"]) == {f"{name} minus own" for name in ("orthogonal", "average", "pooled")}
    assert table["auroc"].notna().any()


FLOWER = all(find_spec(name) for name in ("flwr", "ray"))


@pytest.mark.skipif(FLOWER, reason="Flower is installed")
def test_rounds_say_what_to_install(tmp_path):
    script = EXAMPLES / "flower_rounds.py"
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.strip().endswith("pip install 'flwr[simulation]'")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not FLOWER, reason="needs Flower and its simulation: pip install 'flwr[simulation]'")
def test_three_hospitals_train_in_rounds_of_flower(tmp_path):
    run("flower_rounds.py", tmp_path, "--patients", "30", "--rounds", "2", "--epochs", "1")
    table = pd.read_csv(tmp_path / "flower_rounds.csv")
    assert set(table["hospital"]) == {"north", "south", "west"}
    assert set(table["difference"]) == {"rounds minus own", "merged minus own"}
    assert table["auroc"].notna().any()
    assert len(list(tmp_path.glob("rounds/*-2/model/*.safetensors"))) == 3
