"""The rooms' public names exist, are imported when they are used, and no other name is there."""

import subprocess
import sys
from importlib import import_module

import pytest


@pytest.mark.parametrize("room", ["backbone", "datasets", "phantoms"])
def test_every_public_name_is_there(room):
    module = import_module(f"clinvit.{room}")
    for name in module.__all__:
        assert callable(getattr(module, name)) and name in dir(module)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_nothing_heavy_is_imported_before_it_is_used():
    code = "import sys, clinvit.backbone, clinvit.datasets, clinvit.phantoms; print({'torch', 'cv2'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
