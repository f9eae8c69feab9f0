"""A stem of convolutions beside the projection of patches: an encoder gains an eye for texture and keeps its weights.

Xiao et al. 2021, "Early convolutions help transformers see better" (NeurIPS), put convolutions in place of the
projection. Here they are added to it and give zero at first, so that a pre-trained encoder starts as it was.
"""

import torch
from torch import Tensor, nn

from .sizes import stem_steps


class ConvStem(nn.Module):
    """Convolutions of stride 2 down to the grid of patches, with twice the channels each; the last, 1 x 1, is zero.

    Of the strided ones each but the first and the last is followed by one of stride 1 (weights of 3 x 3, batch norms).

    Args:
        channels: Of the input.
        width: Of a token, D.
        patch: Side of a patch, px: a power of two from 4 on (`stem_steps`).
    """

    def __init__(self, channels: int, width: int, patch: int):
        super().__init__()
        steps = stem_steps(width, patch)
        parts, seen = [], channels
        for step in range(steps):
            made = width >> (steps - 1 - step)
            parts += _convolved(seen, made, stride=2)
            if 0 < step < steps - 1:
                parts += _convolved(made, made, stride=1)
            seen = made
        last = nn.Conv2d(width, width, 1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None, "convolutions have one unless told otherwise"
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*parts[:-1], last)

    def forward(self, x: Tensor, ids: Tensor | None = None) -> Tensor:
        """Return (B, n, D) of images (B, C, 1, H, W): what is added to all patches or to `ids` (B, n).

        The convolutions see the whole image, also what no patch of `ids` covers.
        """
        tokens = self.layers(x[:, :, 0].contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2)
        return tokens if ids is None else tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[2]))


def _convolved(seen: int, made: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(seen, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made), nn.GELU()]
