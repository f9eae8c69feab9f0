"""The encoder of Swin-UNETR on MONAI's Swin transformer, with the patch merging of MONAI 0.9."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Offsets (time, height, width) of the joined sub-grids. 010 and 001 come twice, 110 and 011 not at all: a slip of
# MONAI 0.9 that the paper's networks were trained with, and that later releases mended.
OFFSETS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))


class PatchMerging(nn.Module):
    """Patch merging: half the time steps, height and width, twice the channels.

    Args:
        dim: Channels C.
        norm_layer: Class of the norm.
        spatial_dims: 3; MONAI names it.
    """

    def __init__(self, dim: int, norm_layer: type[nn.Module], spatial_dims: int):
        super().__init__()
        assert spatial_dims == 3
        self.reduction = nn.Linear(8 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(8 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T/2, H/2, W/2, 2C) of (B, T, H, W, C); odd sides get a row of zeros at their end."""
        time, height, width = x.shape[1:4]
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2, 0, time % 2))
        x = torch.cat([x[:, t::2, h::2, w::2] for t, h, w in OFFSETS], dim=-1)
        return self.reduction(self.norm(x))


class SwinEncoder(nn.Module):
    """Swin transformer with 4 stages of 2 blocks, windows of 7; the last stage's output, normalised over channels.

    The convolutions that Swin-UNETR puts beside it serve the decoder and are left out.

    Args:
        channels: Input channels C.
    """

    def __init__(self, channels: int):
        super().__init__()
        from monai.networks.nets.swin_unetr import SwinTransformer

        self.swinViT = SwinTransformer(
            in_chans=channels,
            embed_dim=24,
            window_size=(7, 7, 7),
            patch_size=(2, 2, 2),
            depths=(2, 2, 2, 2),
            num_heads=(3, 6, 12, 24),
            mlp_ratio=4.0,
            qkv_bias=True,
            downsample=PatchMerging,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 384, T/32, H/32, W/32) of (B, C, T, H, W), sides rounded up."""
        return self.swinViT(x, normalize=True)[-1]
