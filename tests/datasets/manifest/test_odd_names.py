"""File names that are no UTF-8 cost that file, and nothing else."""

import os

import pytest
from clinvit.datasets.manifest.inventory import files_below


@pytest.mark.parametrize("name", [b"bad\xff.png", b"folder\xe9/a.png"])
def test_a_walk_leaves_out_names_that_no_table_can_hold(tmp_path, capsys, name):
    (tmp_path / "good.png").touch()
    path = os.path.join(os.fsencode(tmp_path), name)  # noqa: PTH118
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    os.close(os.open(path, os.O_CREAT))
    assert files_below(tmp_path, (".png",)) == ["good.png"]
    said = capsys.readouterr().err
    assert "1 name is no UTF-8 and is left out" in said and "\\udc" in said
