"""What all tests share: the golden numbers, and real data where it lies beside the project."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(min(2, torch.get_num_threads()))


class Golden:
    """One file of `tests/golden`: `state`, `inputs`, `outputs` as tensors, `meta` as a dict."""

    def __init__(self, name: str):
        with np.load(ROOT / "tests" / "golden" / f"{name}.npz", allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        self.meta = json.loads(str(arrays.pop("meta")))
        self.state, self.inputs, self.outputs = ({} for _ in range(3))
        groups = {"state": self.state, "in": self.inputs, "out": self.outputs}
        for key, value in arrays.items():
            group, name = key.split("/", 1)
            groups[group][name] = torch.from_numpy(value)


@pytest.fixture
def golden():
    """`golden(name)` reads reference numbers of an official implementation."""
    return Golden


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Small real data that may lie beside the project; it is never part of it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data beside the project (../shared/data)")
    return folder
