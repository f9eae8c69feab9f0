"""What runs on a GPU some day runs here, small."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_script_for_gpus_walks_its_whole_path():
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", ROOT / "benchmarks/gpu.sh", "--device", "cpu", "--tiny"], capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": here},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    parts = [line.removeprefix("== ") for line in done.stdout.splitlines() if line.startswith("== ")]
    assert parts == ["golden numbers on cpu", "mae step", "videomae step", "finetune step", "MFU", "commands"]
    assert "extract" in done.stdout.splitlines()[-2]
