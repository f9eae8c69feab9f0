"""The one Vision Transformer, for images and clips, on timm's blocks and with timm's parameter names."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from timm.layers import GluMlp, Mlp, QuickGELU
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .attention import KeylessLinear, RotaryAttention, attention_weights
from .mlp import IdleMlp, MergedMlp, TokenBatchNorm
from .patches import PatchEmbed, as_clip
from .positions import position_table, resize_positions
from .rotary import RotaryPositions, Turn
from .sizes import Architecture
from .stem import ConvStem

ACTIVATIONS: dict[str, Any] = {
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
    "silu": nn.SiLU,
    "relu": nn.ReLU,
}


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
        norm = _norm_of(arch)
        patch_norm = norm(arch.width) if arch.patch_norm else None
        self.patch_embed = PatchEmbed(arch.channels, arch.width, arch.patch_size, arch.tubelet, patch_norm)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, arch.width)) if arch.class_token else None
        self.reg_token = nn.Parameter(torch.zeros(1, arch.registers, arch.width)) if arch.registers else None
        self.pos_embed = _full_table(arch)
        self.rope = _rotary_positions(arch)
        self.norm_pre = norm(arch.width) if arch.input_norm else nn.Identity()
        self.blocks = _blocks_of(arch, drop_path)
        self.norm = norm(arch.width) if final_norm else nn.Identity()
        initialise(self)
        self.stem = ConvStem(arch.channels, arch.width, arch.patch_size) if arch.stem else None
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
        return self._named(self.norm(self.encode(self.embed(x, visible_ids), self.turns(x, visible_ids))))

    def embed(self, x: Tensor, visible_ids: Tensor | None = None) -> Tensor:
        """Return (B, [1 +] registers + n, D) tokens with their positions, before the first block.

        The arguments are those of `forward`.
        """
        x = as_clip(x)
        if x.shape[1] != self.arch.channels:
            raise ValueError(f"the model takes {self.arch.channels} channels, the input has {x.shape[1]}")
        cls_position, positions = self.positions(self.grid_of(x))
        tokens = self.patch_embed(x, visible_ids)
        if self.stem is not None:
            tokens = tokens + self.stem(x, visible_ids)
        if positions is not None:
            if visible_ids is not None:
                ids = visible_ids.unsqueeze(-1).expand(-1, -1, positions.shape[-1])
                positions = positions.expand(x.shape[0], -1, -1).gather(1, ids)
            tokens = tokens + positions
        before = []
        if self.cls_token is not None:
            before.append(self.cls_token if cls_position is None else self.cls_token + cls_position)
        if self.reg_token is not None:
            before.append(self.reg_token)
        if before:
            tokens = torch.cat([*(part.expand(x.shape[0], -1, -1).to(tokens.dtype) for part in before), tokens], dim=1)
        return self.norm_pre(tokens)

    def turns(self, x: Tensor, visible_ids: Tensor | None = None) -> list[Turn] | None:
        """Return the turn of each block for the tokens that `embed` gives, or None without rotary positions.

        The arguments are those of `forward`.
        """
        return None if self.rope is None else self.rope(self.grid_of(as_clip(x)), visible_ids)

    def last_layers(self, x: Tensor, count: int) -> list[Tokens]:
        """Return what the last `count` blocks give for whole inputs, each through the final norm, in their order.

        As DINO's `get_intermediate_layers`.
        """
        tokens, out = self.embed(x), []
        for i, (block, turn) in enumerate(zip(self.blocks, self._given(x), strict=True)):
            tokens = block(tokens, *turn)
            if len(self.blocks) - i <= count:
                out.append(self._named(self.norm(tokens)))
        return out

    def last_attention(self, x: Tensor) -> Tensor:
        """Return (B, heads, M, M) attention weights of the last block for whole inputs (`get_last_selfattention`).

        M are all tokens in the order of `embed`; row 0 is the class token's.
        """
        tokens, given = self.embed(x), self._given(x)
        for block, turn in zip(self.blocks[:-1], given[:-1], strict=True):
            tokens = block(tokens, *turn)
        last: Any = self.blocks[-1]
        tokens = tokens if self.arch.norm_after else last.norm1(tokens)
        return attention_weights(last.attn, last.attn.qkv(tokens), *given[-1])[0]

    def _given(self, x: Tensor) -> list[tuple]:
        """Return what each block takes beside the tokens of whole inputs: its turn, or nothing."""
        turns = self.turns(x)
        return [()] * len(self.blocks) if turns is None else [(turn,) for turn in turns]

    def _named(self, tokens: Tensor) -> Tokens:
        cls = None if self.cls_token is None else tokens[:, 0]
        return Tokens(cls, tokens[:, self.arch.tokens_before :])

    def encode(self, tokens: Tensor, turns: Sequence[Turn] | None = None) -> Tensor:
        """Return (B, n, D) through all blocks, before the final norm; `turns` as the method of that name gives."""
        recompute = self.checkpoint_blocks and self.training
        if turns is None:
            return through(self.blocks, tokens, recompute)
        for block, turn in zip(self.blocks, turns, strict=True):
            tokens = through_one(block, recompute, tokens, turn)
        return tokens

    def grid_of(self, x: Tensor) -> tuple[int, int, int]:
        """Return tokens along time, height and width of a clip (B, C, T, H, W)."""
        patch = self.arch.patch_size
        return x.shape[2] // self.arch.tubelet, x.shape[3] // patch, x.shape[4] // patch

    def positions(self, grid: tuple[int, int, int]) -> tuple[Tensor | None, Tensor | None]:
        """Return position of the class token (1, 1, D) and of the patches (1, N, D) of `grid`, each if there is one."""
        if self.pos_embed is None:
            return None, None
        arch, extra = self.arch, int(self.cls_token is not None)
        table = self.pos_embed[0, extra:]
        if grid != arch.grid:
            table = resize_positions(
                table, arch.grid, grid, arch.resize_offset, arch.resize_antialias, arch.resize_mode
            )
        return self.pos_embed[:, :extra] if extra else None, table.unsqueeze(0)

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that are no weight matrices and are never decayed."""
        return {"pos_embed", "cls_token", "reg_token", "rope.freqs"}


class RotaryBlock(Block):
    """A block whose attention has rotary positions."""

    def forward(self, tokens: Tensor, turn: Turn) -> Tensor:  # type: ignore[override]
        """Return (B, M, D) of tokens (B, M, D) and their turn."""
        attn: Any = self.attn
        tokens = tokens + self.drop_path1(self.ls1(attn(self.norm1(tokens), turn)))
        return tokens + self.drop_path2(self.ls2(self.mlp(self.norm2(tokens))))


class NormAfterBlock(Block):
    """A block that norms what it adds (EVA-02-CLIP's largest, Swin V2)."""

    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]
        """Return (B, M, D) of tokens (B, M, D)."""
        tokens = tokens + self.drop_path1(self.ls1(self.norm1(self.attn(tokens))))
        return tokens + self.drop_path2(self.ls2(self.norm2(self.mlp(tokens))))


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
    last: type[Block] | None = None,
    kind: type[Block] = Block,
    **options: Any,
) -> nn.ModuleList:
    """Return `depth` Transformer blocks (timm's, pre-norm) of the class `kind`; the last one is of the class `last`.

    Stochastic depth rises linearly to `drop_path`; what a block adds is scaled per channel, from `layer_scale` on. The
    options are timm's.
    """
    rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
    kinds = [last or kind if i == depth - 1 else kind for i in range(depth)]
    usual: dict[str, Any] = {"qkv_bias": True, "norm_layer": partial(nn.LayerNorm, eps=1e-6)}
    return nn.ModuleList(
        kind(width, heads, mlp_ratio=mlp_ratio, drop_path=rate, init_values=layer_scale, **(usual | options))
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


def _norm_of(arch: Architecture) -> Any:
    return partial(nn.LayerNorm if arch.norm == "layer" else nn.RMSNorm, eps=arch.norm_eps)


def _blocks_of(arch: Architecture, drop_path: float) -> nn.ModuleList:
    """Return the blocks of an architecture, random."""
    options: dict[str, Any] = {
        "norm_layer": _norm_of(arch), "act_layer": ACTIVATIONS[arch.activation], "qkv_bias": arch.qkv_bias,
        "qk_norm": arch.query_key_norm, "scale_attn_norm": arch.attention_norm, "scale_mlp_norm": arch.mlp_norm,
    }  # fmt: skip
    kind: type[Block] = NormAfterBlock if arch.norm_after else Block
    if arch.rotary is not None:
        kind = RotaryBlock
        options["attn_layer"] = RotaryAttention
    if arch.gated_mlp:
        options["mlp_layer"] = partial(GluMlp, gate_last=False)
    # timm cuts width times ratio off to a whole number, which a ratio that is a fraction may just miss.
    hidden = round(arch.width * arch.mlp_ratio) * (2 if arch.gated_mlp else 1)
    blocks = make_blocks(
        arch.width, arch.depth, arch.heads, (hidden + 0.5) / arch.width, drop_path,
        1e-5 if arch.layer_scale else None, kind=kind, **options,
    )  # fmt: skip
    for number, block in enumerate(blocks):
        _fit_block(block, arch, number)
    if arch.rotary is not None:
        for block in blocks:
            attn: Any = block.attn
            attn.halves = arch.rotary.halves
            if arch.qkv_bias and not arch.key_bias:
                attn.qkv = KeylessLinear(arch.width, attn.qkv.out_features)
    return blocks


def _fit_block(block: nn.Module, arch: Architecture, number: int) -> None:
    """Give a block the heads and the hidden units that it has of its own (see `Architecture.block_heads` and below)."""
    part: Any = block
    hidden, act = arch.hidden_of(number), ACTIVATIONS[arch.activation]
    if arch.block_heads:
        part.attn = type(part.attn)(
            arch.width, arch.heads_of(number), attn_head_dim=arch.width // arch.heads, qkv_bias=arch.qkv_bias,
            qk_norm=arch.query_key_norm, scale_norm=arch.attention_norm, norm_layer=_norm_of(arch),
        )  # fmt: skip
    if arch.mlp_shortcut:
        part.mlp = MergedMlp(arch.width, hidden, act)
    elif arch.block_active:
        part.mlp = IdleMlp(arch.width, hidden, arch.block_active[number], act, arch.mlp_batch_norm)
    elif arch.block_hidden:
        norm = _norm_of(arch) if arch.mlp_norm else None
        if arch.gated_mlp:
            part.mlp = GluMlp(arch.width, 2 * hidden, act_layer=act, norm_layer=norm, gate_last=False)
        else:
            part.mlp = Mlp(arch.width, hidden, act_layer=act, norm_layer=norm)
    if arch.mlp_batch_norm:
        part.norm2 = TokenBatchNorm(arch.width)
    elif not arch.mlp_input_norm:
        part.norm2 = nn.Identity()


def _rotary_positions(arch: Architecture) -> RotaryPositions | None:
    if arch.rotary is None:
        return None
    channels = arch.width // arch.heads
    return RotaryPositions(arch.rotary, arch.grid, arch.heads, channels, arch.tokens_before, arch.depth)


def _full_table(arch: Architecture) -> nn.Parameter | None:
    """Return (1, N, D), or (1, 1 + N, D) with a zero position for the class token, or None without positions."""
    if arch.positions == "none":
        return None
    table = position_table(arch.positions, arch.grid, arch.width)
    if arch.class_token:
        table = torch.cat([torch.zeros(1, arch.width), table])
    return nn.Parameter(table.unsqueeze(0), requires_grad=arch.positions == "learned")
