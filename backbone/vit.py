"""The one Vision Transformer, for images and clips, on timm's blocks and with timm's parameter names."""

from functools import partial
from typing import Any, NamedTuple

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .patches import PatchEmbed, as_clip
from .positions import position_table, resize_positions
from .sizes import Architecture


class Tokens(NamedTuple):
    """What the ViT gives back.

    Attributes:
        cls: (B, D) the class token, or None where the model has none.
        patches: (B, n, D) the patch tokens, in the order of `visible_ids` (or of the grid).
    """

    cls: Tensor | None
    patches: Tensor

    def sequence(self) -> Tensor:
        """Return (B, 1 + n, D) with the class token first, or (B, n, D) without one."""
        return self.patches if self.cls is None else torch.cat([self.cls.unsqueeze(1), self.patches], dim=1)


class ViT(nn.Module):
    """Vision Transformer (Dosovitskiy et al. 2021) for masked pre-training and fine-tuning.

    Args:
        arch: Sizes, input and position kind.
        drop_path: Stochastic depth at the last block; rises linearly from 0 over the blocks.
        final_norm: LayerNorm after the last block; the mean-pooled classifier of MAE has its own instead.
        checkpoint_blocks: Gradient checkpointing: recompute the blocks in the backward pass; less memory, about a third
            more time.
    """

    def __init__(
        self,
        arch: Architecture,
        *,
        drop_path: float = 0.0,
        final_norm: bool = True,
        checkpoint_blocks: bool = False,
    ):
        super().__init__()
        self.arch = arch
        self.checkpoint_blocks = checkpoint_blocks
        self.patch_embed = PatchEmbed(arch.channels, arch.width, arch.patch_size, arch.tubelet)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, arch.width)) if arch.class_token else None
        self.reg_token = nn.Parameter(torch.zeros(1, arch.registers, arch.width)) if arch.registers else None
        self.pos_embed = nn.Parameter(_full_table(arch), requires_grad=arch.positions == "learned")
        self.blocks = make_blocks(
            arch.width, arch.depth, arch.heads, arch.mlp_ratio, drop_path, 1e-5 if arch.layer_scale else None
        )
        self.norm = nn.LayerNorm(arch.width, eps=1e-6) if final_norm else nn.Identity()
        initialise(self)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=0.02)
        if self.reg_token is not None:
            nn.init.normal_(self.reg_token, std=0.02)

    def forward(self, x: Tensor, visible_ids: Tensor | None = None) -> Tokens:
        """Encode images or clips, whole or only the patches named.

        Args:
            x: (B, C, H, W) or (B, C, T, H, W), normalised. Sizes other than `arch.image_size` are allowed as
                long as they divide into patches: the positions are resampled.
            visible_ids: (B, n) indices of the tokens to encode, or None for all. The others are never projected.
        """
        return self._named(self.norm(self.encode(self.embed(x, visible_ids))))

    def embed(self, x: Tensor, visible_ids: Tensor | None = None) -> Tensor:
        """Return (B, [1 + registers +] n, D) tokens with their positions, before the first block.

        The arguments are those of `forward`.
        """
        x = as_clip(x)
        if x.shape[1] != self.arch.channels:
            raise ValueError(f"the model takes {self.arch.channels} channels, the input has {x.shape[1]}")
        cls_position, positions = self.positions(self.grid_of(x))
        tokens = self.patch_embed(x, visible_ids)
        if visible_ids is None:
            tokens = tokens + positions
        else:
            tokens = tokens + positions.expand(x.shape[0], -1, -1).gather(
                1, visible_ids.unsqueeze(-1).expand(-1, -1, positions.shape[-1])
            )
        if self.cls_token is not None and cls_position is not None:
            cls = (self.cls_token + cls_position).expand(x.shape[0], -1, -1)
            before = [cls] if self.reg_token is None else [cls, self.reg_token.expand(x.shape[0], -1, -1)]
            tokens = torch.cat([*(part.to(tokens.dtype) for part in before), tokens], dim=1)
        return tokens

    def last_layers(self, x: Tensor, count: int) -> list[Tokens]:
        """Return what the last `count` blocks give for whole inputs, each through the final norm, in their order.

        As DINO's `get_intermediate_layers`.
        """
        tokens, out = self.embed(x), []
        for i, block in enumerate(self.blocks):
            tokens = block(tokens)
            if len(self.blocks) - i <= count:
                out.append(self._named(self.norm(tokens)))
        return out

    def last_attention(self, x: Tensor) -> Tensor:
        """Return (B, heads, M, M) attention weights of the last block for whole inputs (`get_last_selfattention`).

        M are all tokens in the order of `embed`; row 0 is the class token's.
        """
        tokens = self.embed(x)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        last: Any = self.blocks[-1]
        qkv = last.attn.qkv(last.norm1(tokens))
        # (3, B, heads, M, D / heads)
        query, key, _ = qkv.unflatten(2, (3, self.arch.heads, -1)).permute(2, 0, 3, 1, 4)
        return (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1)

    def _named(self, tokens: Tensor) -> Tokens:
        if self.cls_token is None:
            return Tokens(None, tokens)
        return Tokens(tokens[:, 0], tokens[:, 1 + self.arch.registers :])

    def encode(self, tokens: Tensor) -> Tensor:
        """Return (B, n, D) through all blocks, before the final norm."""
        return through(self.blocks, tokens, self.checkpoint_blocks and self.training)

    def grid_of(self, x: Tensor) -> tuple[int, int, int]:
        """Return tokens along time, height and width of a clip (B, C, T, H, W)."""
        patch = self.arch.patch_size
        return x.shape[2] // self.arch.tubelet, x.shape[3] // patch, x.shape[4] // patch

    def positions(self, grid: tuple[int, int, int]) -> tuple[Tensor | None, Tensor]:
        """Return position of the class token (1, 1, D), if there is one, and of the patches (1, N, D) of `grid`."""
        extra = int(self.cls_token is not None)
        table = self.pos_embed[0, extra:]
        if grid != self.arch.grid:
            table = resize_positions(table, self.arch.grid, grid, self.arch.resize_offset)
        return self.pos_embed[:, :extra] if extra else None, table.unsqueeze(0)

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that are no weight matrices and are never decayed."""
        return {"pos_embed", "cls_token", "reg_token"}


class LastTokensBlock(Block):
    """A block that is asked for its last tokens alone: of the others it takes keys and values, no more.

    Its numbers are those of timm's block without drop path, dropout or layer scale.
    """

    def forward(self, tokens: Tensor, count: int) -> Tensor:  # type: ignore[override]
        """Return the last tokens (B, count, D) of (B, n, D)."""
        attn: Any = self.attn
        asked = tokens[:, -count:]
        qkv = attn.qkv(self.norm1(tokens))
        # (3, B, heads, n, D / heads)
        query, key, value = qkv.unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query = query[:, :, -count:]
        if attn.fused_attn:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = ((query * attn.scale) @ key.transpose(-2, -1)).softmax(dim=-1) @ value
        asked = asked + attn.proj(mixed.transpose(1, 2).flatten(2))
        return asked + self.mlp(self.norm2(asked))


def make_blocks(
    width: int,
    depth: int,
    heads: int,
    mlp_ratio: float = 4.0,
    drop_path: float = 0.0,
    layer_scale: float | None = None,
    last: type[Block] = Block,
) -> nn.ModuleList:
    """Return `depth` pre-norm Transformer blocks (timm's); the last one is of the class `last`.

    Stochastic depth rises linearly to `drop_path`; what a block adds is scaled per channel, from `layer_scale` on.
    """
    rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
    norm: Any = partial(nn.LayerNorm, eps=1e-6)
    kinds = [last if i == depth - 1 else Block for i in range(depth)]
    return nn.ModuleList(
        kind(width, heads, mlp_ratio=mlp_ratio, qkv_bias=True, drop_path=rate, norm_layer=norm, init_values=layer_scale)
        for kind, rate in zip(kinds, rates, strict=True)
    )


def through(blocks: nn.ModuleList, tokens: Tensor, recompute: bool) -> Tensor:
    """Return (B, n, D) through blocks in turn, with or without gradient checkpointing."""
    for block in blocks:
        tokens = through_one(block, recompute, tokens)
    return tokens


def through_one(block: nn.Module, recompute: bool, *inputs) -> Tensor:
    """Return a block's output; to `recompute` is gradient checkpointing.

    Its inputs alone are kept for the backward pass (Chen et al. 2016), and the same random numbers are drawn again.
    """
    return checkpoint(block, *inputs, use_reentrant=False) if recompute else block(*inputs)


def initialise(module: nn.Module) -> None:
    """Initialise as MAE does: Xavier-uniform matmuls (patch projections seen as matrices), zero biases, unit norms."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, PatchEmbed) and part.tubelet == 1:
            # VideoMAE leaves its projection of tubelets at PyTorch's default.
            nn.init.xavier_uniform_(part.proj.weight.data.flatten(1))
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def _full_table(arch: Architecture) -> Tensor:
    """Return (1, N, D), or (1, 1 + N, D) with a zero position for the class token."""
    table = position_table(arch.positions, arch.grid, arch.width)
    if arch.class_token:
        table = torch.cat([torch.zeros(1, arch.width), table])
    return table.unsqueeze(0)
