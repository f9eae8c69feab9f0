"""The plain Vision Transformer over cubes of a volume, on MONAI's blocks (not the tubelet ViT of `backbone`)."""

import torch
from torch import Tensor, nn

WIDTH, MLP = 768, 3072


class PatchTransformer(nn.Module):
    """Cubes, learned positions, pre-norm blocks.

    Frames and pixels beyond the last whole cube are ignored.

    Args:
        channels: Input channels C.
        size: Frames, height, width of the input.
        patch: Side of a cube, in frames and in pixels.
        depth: Number of blocks.
        heads: Attention heads.
    """

    def __init__(self, channels: int, size: tuple[int, int, int], patch: int, depth: int, heads: int):
        super().__init__()
        from monai.networks.blocks.patchembedding import PatchEmbeddingBlock
        from monai.networks.blocks.transformerblock import TransformerBlock

        self.patch_embedding = PatchEmbeddingBlock(channels, size, patch, WIDTH, heads, proj_type="conv")
        self.blocks = nn.ModuleList(TransformerBlock(WIDTH, MLP, heads, use_flash_attention=True) for _ in range(depth))
        for block in self.blocks:
            block.norm_cross_attn = nn.Identity()  # MONAI makes it for cross-attention, which is not there

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the (B, N, 768) tokens after each block, not normalised, of (B, C, T, H, W)."""
        x, states = self.patch_embedding(x), []
        for block in self.blocks:
            x = block(x)
            states.append(x)
        return states


class ViT3D(PatchTransformer):
    """4 blocks over cubes of 7, with a class token that has no position (ERDES, `ViTEncoder`)."""

    def __init__(self, channels: int, size: tuple[int, int, int]):
        super().__init__(channels, size, patch=7, depth=4, heads=4)
        self.norm = nn.LayerNorm(WIDTH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Return the (B, 768) normalised class token of (B, C, T, H, W)."""
        x = self.patch_embedding(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])
