"""The notebooks of `examples/` run from the first cell to the last, on phantoms, without a network."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from .conftest import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


# `!clinvit ...` runs in the kernel's own process: each of a cell's commands would import torch anew.
COMMANDS = """
import shlex
from clinvit.cli import main

def _run(line):
    words = shlex.split(get_ipython().var_expand(line))
    assert words[0] == "clinvit", line
    main(words[1:])  # an exit code other than 0 ends no notebook

get_ipython().system = _run
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if path.stem == "xrays" else pytest.mark.thorough) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_it_runs_and_ends_in_a_report(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    if path.stem == "xrays":
        notebook.cells.insert(0, nbformat.v4.new_code_cell(COMMANDS))
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(
        out.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for out in cell["outputs"]
    )
    assert "clinvit: error" not in printed, printed
    assert list(tmp_path.rglob("report.html"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert cell.cell_type != "code" or (not cell["outputs"] and cell["execution_count"] is None)
