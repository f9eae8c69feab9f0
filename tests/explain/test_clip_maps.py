"""Maps of clips: those of images where a clip has one frame, on the frames of the file that the model saw."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.datasets.settings import Clip
from clinvit.explain.clip_maps import clip_maps
from clinvit.explain.relevance import relevance_maps
from clinvit.finetune.model import ModelCard, build_model
from clinvit.finetune.recipe import View
from PIL import Image


def model_of(frames: int, tubelet: int, clip: Clip, view: str = "squash"):
    positions = "sine2d" if frames == 1 else "sine1d"
    arch = Architecture(
        32, 1, 2, image_size=(32, 32), patch_size=8, frames=frames, tubelet=tubelet, positions=positions
    )
    card = ModelCard(
        ("Square", "Bar"), {}, False, "full", "vit", "mean", arch, (0.5,), (0.25,), View(view, None), 40, clip=clip
    )
    torch.manual_seed(0)
    return build_model(card).eval(), card


def test_clip_of_one_frame_has_the_map_of_the_image():
    model, _ = model_of(1, 1, Clip())
    x = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[0, 1], [1, 0]])
    image, clip = (relevance_maps(model, each, targets, "gradient") for each in (x, x.unsqueeze(2)))
    assert clip.shape == (2, 2, 1, 4, 4)
    torch.testing.assert_close(clip[:, :, 0], image)


@pytest.fixture
def clip_file(tmp_path) -> Path:
    """13 frames of 48 x 40 px."""
    generator = np.random.default_rng(0)
    for number in range(13):
        Image.fromarray(generator.integers(0, 255, (48, 40), np.uint8)).save(tmp_path / f"{number:02d}.png")
    return tmp_path


def test_maps_lie_on_the_frames_that_the_model_saw(clip_file):
    model, card = model_of(8, 2, Clip("uniform"))
    found = clip_maps(model, card, clip_file, np.array([1]))
    assert found.frames == tuple(card.views().frames_of(13).tolist()) and len(found.frames) == 8
    assert found.maps.shape == (1, 8, 4, 4) and (found.maps >= 0).all() and found.maps.max() > 0
    np.testing.assert_array_equal(found.maps[:, ::2], found.maps[:, 1::2])  # two frames a token
    assert found.extent_px == (0, 0, 40, 48) and (found.width_px, found.height_px) == (40, 48)


def test_frame_that_is_seen_twice_stands_once(clip_file):
    model, card = model_of(16, 2, Clip("uniform"))
    found = clip_maps(model, card, clip_file, np.array([0]))
    assert found.frames == tuple(range(13)) and found.maps.shape[1] == 13


def test_network_without_tokens_has_no_maps(clip_file):
    _, card = model_of(8, 2, Clip("uniform"))
    assert clip_maps(torch.nn.Linear(1, 1), card, clip_file, np.array([0])) is None
