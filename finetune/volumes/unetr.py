"""The encoder of UNETR on MONAI's blocks: a transformer whose states are brought to one size and joined."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .vit3d import WIDTH, PatchTransformer

PATCH = 16
STATES = (3, 6, 9)


class UNETREncoder(nn.Module):
    """Input and three hidden states, each through its convolutions, joined at an eighth of the input's size.

    The states are the outputs of blocks 3, 6 and 9, counted from 0 and not normalised. Blocks 10 and 11 and the last
    norm of the 12-block transformer reach none of them and are left out.

    Args:
        channels: Input channels C.
        size: Frames, height, width of the input.
    """

    def __init__(self, channels: int, size: tuple[int, int, int]):
        super().__init__()
        from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrPrUpBlock

        self.grid = tuple(side // PATCH for side in size)
        self.vit = PatchTransformer(channels, size, PATCH, depth=STATES[-1] + 1, heads=12)
        block = {"spatial_dims": 3, "kernel_size": 3, "stride": 1, "norm_name": "batch", "res_block": True}
        rise = block | {"in_channels": WIDTH, "upsample_kernel_size": 2, "conv_block": True}
        self.encoder1 = UnetrBasicBlock(in_channels=channels, out_channels=16, **block)
        self.encoder2 = UnetrPrUpBlock(out_channels=32, num_layer=2, **rise)
        self.encoder3 = UnetrPrUpBlock(out_channels=64, num_layer=1, **rise)
        self.encoder4 = UnetrPrUpBlock(out_channels=128, num_layer=0, **rise)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 240, T/8, H/8, W/8) of (B, C, T, H, W)."""
        states = self.vit(x)
        third, sixth, ninth = (states[index].mT.unflatten(2, self.grid) for index in STATES)
        maps = [self.encoder1(x), self.encoder2(third), self.encoder3(sixth), self.encoder4(ninth)]
        return torch.cat([F.interpolate(one, maps[-1].shape[2:], mode="nearest") for one in maps], dim=1)
