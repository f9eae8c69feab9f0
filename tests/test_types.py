"""mypy finds nothing in what the package shows to others."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("backbone", "core", "datasets.transforms", "engine", "eval", "explain", "mil", "pretrain")
MODULES = (
    "__init__",
    "api",
    "datasets",
    "datasets.loading.arrays",
    "datasets.loading.cache",
    "datasets.loading.readers",
    "datasets.loading.source",
    "datasets.manifest.tables",
    "datasets.quality.check",
    "datasets.settings",
    "finetune",
    "finetune.adaptation",
    "finetune.classifier",
    "finetune.losses",
    "finetune.model",
    "finetune.multiscale",
    "finetune.pipeline",
    "finetune.predict",
    "finetune.recipe",
    "finetune.training",
    "stages.task",
    "tasks",
    "tasks.clips.recipes",
    "tasks.erdes.recipes",
    "tasks.images.recipes",
    "tasks.slides.recipes",
    "tasks.thorax",
    "tasks.thorax.recipes",
    "tasks.thorax.train",
    "train",
)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_the_public_interface_is_typed(tmp_path):
    """The repository root is the package: mypy needs a folder that holds it under its name."""
    try:
        (tmp_path / "clinvit").symlink_to(ROOT, target_is_directory=True)
    except OSError as error:
        pytest.skip(f"links cannot be made here: {error}")
    wanted = [word for name in PACKAGES for word in ("-p", f"clinvit.{name}")]
    wanted += [word for name in MODULES for word in ("-m", f"clinvit.{name}".removesuffix(".__init__"))]
    settings = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *settings, *wanted], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
