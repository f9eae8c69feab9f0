"""Pythons in which something is missing."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def python_after(tmp_path):
    """`python_after(site, code, *arguments)` runs `code` in a Python that runs `site` first, as its processes do."""
    folder = tmp_path / "site"
    folder.mkdir()

    def run(site: str, code: str, *arguments: str) -> subprocess.CompletedProcess:
        (folder / "sitecustomize.py").write_text(site)
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, timeout=300,
            cwd=tmp_path, check=False,
        )  # fmt: skip

    return run
