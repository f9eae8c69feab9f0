"""What the command costs before it works: seconds of the processor, and modules that nothing has asked for."""

import os
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from PIL import Image

# The command in a process of its own; its last line says the processor's seconds and what heavy there is.
RUN = """
import os, sys
from clinvit.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code or 0
used = os.times()
print("\\nHEAVY", used.user + used.system, code, *sorted({"torch", "torchvision", "timm", "lightning", "cv2", "sklearn",
    "scipy", "matplotlib", "pydicom", "h5py"} & set(sys.modules)))
"""


def spent(*arguments, cwd):
    """Return seconds of the processor, exit code, heavy modules and what was said."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=120,
        check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    line = [line for line in done.stdout.splitlines() if line.startswith("HEAVY")][-1].split()
    return float(line[1]), int(line[2]), set(line[3:]), done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments, needed",
    [
        (["--help"], set()),
        (["--version"], set()),
        (["evaluate", "--help"], set()),
        (["prepare", "thorax", "--help"], {"cv2", "pydicom"}),  # it shows the options of readers
    ],
)
def test_help_imports_nothing_heavy(arguments, needed, tmp_path):
    seconds, code, heavy, said = spent(*arguments, cwd=tmp_path)
    assert code == 0 and heavy <= needed, (heavy, said)
    assert seconds < 1.5  # 0.3 to 0.8 s; beside other work the same takes more


def test_an_error_in_one_line_of_a_table_is_said_before_anything_heavy_is_imported(tmp_path):
    (tmp_path / "own.csv").write_text("path,patient,Mass\na.png,P1,1\nb.png,P2,0,0\n")
    seconds, code, heavy, said = spent("prepare", "images", "own.csv", "--out", "m.csv", cwd=tmp_path)
    assert code == 2 and "own.csv: row 3 has 4 cells" in said
    assert not heavy and seconds < 1.5


def test_predictions_without_a_model_beside_them_are_evaluated_without_torch(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 80)
    rows = {"id": [f"c{row}" for row in range(80)], "patient": [f"P{row}" for row in range(80)], "split": "test"}
    rows |= {"status": "ok", "reason": "", "y_Mass": truth, "p_Mass": (truth + rng.random(80)) / 2}
    pd.DataFrame(rows).to_csv(tmp_path / "p.csv", index=False)
    _, code, heavy, said = spent("evaluate", "p.csv", "--out", "report", cwd=tmp_path)
    assert code == 0, said
    assert not heavy & {"torch", "timm", "lightning", "cv2"}


def test_a_data_set_is_checked_without_torch(tmp_path):
    rng = np.random.default_rng(0)
    for row in range(20):
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / f"{row}.png")
    rows = {"id": range(20), "path": [f"{row}.png" for row in range(20)], "patient": range(20)}
    table = pd.DataFrame(rows).assign(split=["train", "test"] * 10, Mass=[0, 0, 1, 1] * 5)
    table.to_csv(tmp_path / "manifest.csv", index=False)
    _, code, heavy, said = spent("check", "images", "manifest.csv", cwd=tmp_path)
    assert code == 0, said
    assert f"ok      torch {version('torch')}, on " in said
    assert not heavy & {"torch", "timm", "lightning"}
