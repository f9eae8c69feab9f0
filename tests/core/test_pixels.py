"""Pixels are normalised alike, whatever they are kept as."""

import pytest
import torch
from clinvit.core.pixels import normalised


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 2, 4, 5)], ids=["images", "clips"])
def test_each_channel_has_its_own_mean_and_std(shape):
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = normalised(pixels, mean, std)
    for channel in range(3):
        torch.testing.assert_close(found[:, channel], (pixels[:, channel] / 255 - mean[channel]) / std[channel])
    assert torch.equal(normalised(pixels.float() / 255, torch.tensor(mean), torch.tensor(std)), found)
