"""What tests of prediction share: a model that was never trained, and images of which some are broken."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.finetune.model import ModelCard, build_model, save_model
from clinvit.finetune.recipe import View
from PIL import Image


@pytest.fixture(scope="session")
def random_model(tmp_path_factory):
    """`random_model(**fields)` makes a model folder with random weights for Square and Bar; fields are of its card."""

    def make(**fields) -> Path:
        arch = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8)
        card = ModelCard(
            ("Square", "Bar"), fields.pop("meaning", {}), False, "full", "vit", "mean", arch, (0.5,), (0.25,),
            View("squash", None), 40, **fields,
        )  # fmt: skip
        torch.manual_seed(0)
        return save_model(tmp_path_factory.mktemp("model"), build_model(card), card)

    return make


@pytest.fixture(scope="session")
def small_images(tmp_path_factory):
    """`small_images(count, broken)` writes images of noise, named by their numbers; those of `broken` are none."""

    def write(count: int, broken: Collection[int]) -> Path:
        folder, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
        for number in range(count):
            path = folder / f"{number:0{len(str(count - 1))}d}.png"
            Image.fromarray(generator.integers(0, 255, (40, 40), np.uint8)).save(path)
            if number in broken:
                path.write_bytes(b"broken")
        return folder

    return write
