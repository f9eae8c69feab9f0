"""The model sizes of the papers, and what describes one ViT completely."""

import math
from dataclasses import asdict, dataclass, field

from ..core.errors import UserError
from ..core.ranges import check_ranges, within

# Mean and std of ImageNet's images, three channels in 0..1: what many released networks were trained with.
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# width, depth, heads, MLP ratio. tiny..huge: DeiT, ViT and MAE; giant: VideoMAE V2 (hidden width 6144).
# micro and mini are ours: a 2-core laptop trains them in minutes.
SIZES: dict[str, tuple[int, int, int, float]] = {
    "micro": (128, 4, 4, 4.0),
    "mini": (192, 6, 3, 4.0),
    "tiny": (192, 12, 3, 4.0),
    "small": (384, 12, 6, 4.0),
    "base": (768, 12, 12, 4.0),
    "large": (1024, 24, 16, 4.0),
    "huge": (1280, 32, 16, 4.0),
    "giant": (1408, 40, 16, 48 / 11),
}
NORMS, RESIZE_MODES = ("layer", "rms"), ("bicubic", "bilinear")
ROTARY = ("axial", "centred", "mixed", "clip")
ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "silu", "relu")
# No network or input is larger along any of its sides; what says so is damaged.
LARGEST = 1_000_000


@dataclass(frozen=True)
class Rotary:
    """Rotary positions: how the angles that queries and keys are turned by come from places (see `rotary.py`).

    Attributes:
        kind: `axial`: row and column, counted from 0 (EVA-02). `centred`: from -1 to 1 over the image (DINOv3).
            `mixed`: row and column, weighted per block and head by frequencies that are learned (RoPE-ViT). `clip`:
            frame, row and column (V-JEPA 2).
        base: The longest wavelength over the shortest (of `mixed` only where training starts).
        grid: Rows and columns that the places of any image are stretched to (`axial`); None leaves them as they are.
        offset: Added to rows and columns (`axial`).
        halves: Whether channel i is turned with channel i + d / 2, not with its neighbour.
        columns_first: Whether the first channels belong to the column, not to the row.
    """

    kind: str
    base: float = 10000.0
    grid: tuple[int, int] | None = None
    offset: float = 0.0
    halves: bool = False
    columns_first: bool = False

    def __post_init__(self):
        if self.kind not in ROTARY:
            raise ValueError(f"rotary positions are {', '.join(ROTARY)}, not {self.kind!r}")
        if not self.base > 0 or not math.isfinite(self.base) or not math.isfinite(self.offset):
            raise ValueError("the base of rotary positions is a number above 0, their offset any")
        if self.grid is not None:
            object.__setattr__(self, "grid", tuple(self.grid))
            if len(self.grid) != 2 or min(self.grid) < 1:
                raise ValueError(f"the grid of rotary positions is rows and columns, not {self.grid}")
        if self.kind == "mixed" and self.halves:
            raise ValueError("mixed rotary positions turn neighbouring channels")


@dataclass(frozen=True)
class Architecture:
    """Everything needed to build the same ViT again. An image is a clip of one frame.

    Attributes:
        width: Channels D of a token.
        depth: Number of blocks.
        heads: Attention heads; divides `width`.
        mlp_ratio: Hidden width of the MLP over `width`.
        image_size: Height and width of the input, pixels; multiples of `patch_size`.
        patch_size: Side of a square patch, pixels.
        frames: Frames of the input; 1 for images.
        tubelet: Frames that one token covers; 1 for images.
        channels: Input channels, 1 or 3.
        class_token: Whether a class token stands before the patch tokens.
        positions: `learned`, `sine2d` (MAE), `sine1d` (VideoMAE), `sine3d`, or `none` where rotary ones stand alone.
        resize_offset: How positions are resampled for other input sizes; 0.1 for DINO (see `resize_positions`).
        layer_scale: Whether what each block adds is scaled per channel (DINOv2).
        registers: Learned tokens before the patches, after the class token if there is one, that take part in attention
            and are not given back (DINOv2 with registers).
        rotary: Rotary positions, beside or instead of `positions`; None for none.
        resize_antialias: Whether positions are smoothed where they are resampled to fewer.
        resize_mode: `bicubic` or `bilinear`.
        norm: `layer` (LayerNorm) or `rms` (RMSNorm).
        norm_eps: What the norms add to the variance.
        activation: Of the MLP: gelu, gelu_tanh (SigLIP), quick_gelu (OpenAI's CLIP), silu or relu.
        gated_mlp: Whether the MLP multiplies half of its hidden units, through the activation, with the other half:
            SwiGLU with silu, GeGLU with gelu. `mlp_ratio` counts one half.
        qkv_bias: Whether queries, keys and values have biases.
        key_bias: Whether keys have one too.
        query_key_norm: Whether queries and keys are normed per head.
        attention_norm: Whether what the heads give is normed before it is joined (EVA-02-CLIP, BEiT-3).
        mlp_norm: Whether hidden units are normed (EVA-02, BEiT-3).
        input_norm: Whether tokens are normed before the first block (CLIP).
        patch_norm: Whether projected patches are normed before they get positions (AIMv2).
        norm_after: Whether blocks norm what they add, not what they take in.
        block_heads: Attention heads of each block, all of width / heads channels; empty where none was pruned.
        block_hidden: Hidden units of each block's MLP (of a gated one, of one half); empty where none was pruned.
        block_active: Hidden units of each block that pass the activation, the first ones; the others are idle: linear
            (RePaViT). Empty where all pass it.
        mlp_shortcut: Whether a matmul from the MLP's input to its output stands beside the hidden units: merged idle
            units.
        mlp_batch_norm: Whether the MLP has batch norms before both matmuls, the first in place of the block's own norm
            (RePaViT as published); for idle units, which they are folded into with.
        mlp_input_norm: Whether a norm stands before the MLP; not where a batch norm was folded.
        stem: Whether convolutions of the whole image are added to the projected patches (`stem.py`); of images.
    """

    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    image_size: tuple[int, int] = (224, 224)
    patch_size: int = 16
    frames: int = 1
    tubelet: int = 1
    channels: int = 1
    class_token: bool = True
    positions: str = "sine2d"
    resize_offset: float = 0.0
    layer_scale: bool = False
    registers: int = 0
    rotary: Rotary | None = None
    resize_antialias: bool = False
    resize_mode: str = "bicubic"
    norm: str = "layer"
    norm_eps: float = 1e-6
    activation: str = "gelu"
    gated_mlp: bool = False
    qkv_bias: bool = True
    key_bias: bool = True
    query_key_norm: bool = False
    attention_norm: bool = False
    mlp_norm: bool = False
    input_norm: bool = False
    patch_norm: bool = False
    norm_after: bool = False
    block_heads: tuple[int, ...] = ()
    block_hidden: tuple[int, ...] = ()
    block_active: tuple[int, ...] = ()
    mlp_shortcut: bool = False
    mlp_batch_norm: bool = False
    mlp_input_norm: bool = True
    stem: bool = False

    def __post_init__(self):
        object.__setattr__(self, "image_size", tuple(self.image_size))
        if isinstance(self.rotary, dict):
            object.__setattr__(self, "rotary", Rotary(**self.rotary))
        if not isinstance(self.rotary, Rotary | None):
            raise ValueError("rotary positions are described by their kind, base, grid, ...")
        # No block at all is of use in tests.
        whole = (self.width, self.depth + 1, self.heads, self.patch_size, self.tubelet, self.frames, *self.image_size)
        if not all(isinstance(number, int) and number > 0 for number in whole):
            raise ValueError("width, depth, heads, sizes and frames are whole numbers above 0")
        if len(self.image_size) != 2 or max(whole) > LARGEST or not 0 < self.mlp_ratio < LARGEST:
            raise ValueError(f"an image size has two sides, and no network has sizes beyond {LARGEST:,}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        for side in self.image_size:
            if side % self.patch_size or side <= 0:
                raise ValueError(f"image size {self.image_size} is not a multiple of the patch size {self.patch_size}")
        if self.frames % self.tubelet:
            raise ValueError(f"{self.frames} frames are not a multiple of the tubelet {self.tubelet}")
        if not 0 <= self.registers <= LARGEST:
            raise ValueError(f"registers are 0 or more, not {self.registers}")
        for value, known in ((self.norm, NORMS), (self.activation, ACTIVATIONS), (self.resize_mode, RESIZE_MODES)):
            if value not in known:
                raise ValueError(f"{value!r} is none of {', '.join(known)}")
        if not 0 <= self.norm_eps < 1:
            raise ValueError(f"norm_eps is a small number from 0 on, not {self.norm_eps}")
        if self.positions == "none" and self.rotary is None:
            raise ValueError("positions 'none' are for a model with rotary ones")
        if self.rotary is not None and self.norm_after:
            raise ValueError("blocks with rotary positions norm what they take in")
        if self.channels not in (1, 3):
            raise ValueError(f"channels is 1 or 3, not {self.channels}")
        if self.stem and self.frames > 1:
            raise ValueError(f"a stem of convolutions is for images, not for clips of {self.frames} frames")
        if self.stem:
            stem_steps(self.width, self.patch_size)
        self._check_blocks()

    def _check_blocks(self) -> None:
        """Refuse sizes of single blocks that no block can have."""
        for name, most in (
            ("block_heads", [self.heads] * self.depth),
            ("block_hidden", [LARGEST] * self.depth),
            ("block_active", [self.hidden_of(block) for block in range(self.depth)] if self.block_active else []),
        ):
            sizes = tuple(getattr(self, name))
            object.__setattr__(self, name, sizes)
            if not sizes:
                continue
            whole = all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
            if len(sizes) != self.depth or not whole or not all(0 < n <= top for n, top in zip(sizes, most)):
                raise ValueError(
                    f"{name} are {self.depth} whole numbers from 1 on, no larger than the blocks, not {sizes}"
                )
        linear = bool(self.block_active) or self.mlp_shortcut
        if linear and (self.gated_mlp or self.mlp_norm):
            raise ValueError("idle units are for MLPs without gates and without a norm of their hidden units")
        if self.block_active and self.mlp_shortcut:
            raise ValueError("idle units are either merged or not")
        if self.mlp_batch_norm and (not self.block_active or self.norm_after):
            raise ValueError("batch norms of MLPs are for idle units behind them")
        if not self.mlp_input_norm and (not self.mlp_shortcut or self.norm_after):
            raise ValueError("MLPs without a norm before them are those of merged idle units")
        if self.block_heads and self.rotary is not None and self.rotary.kind == "mixed":
            raise ValueError("blocks with mixed rotary positions have equal heads")

    def heads_of(self, block: int) -> int:
        """Return the attention heads of a block."""
        return self.block_heads[block] if self.block_heads else self.heads

    def hidden_of(self, block: int) -> int:
        """Return the hidden units of a block's MLP; of a gated one, of one half."""
        return self.block_hidden[block] if self.block_hidden else round(self.width * self.mlp_ratio)

    @property
    def compressed(self) -> list[str]:
        """Return in words what makes its blocks other than a plain ViT's; empty for nothing."""
        found = {
            "blocks with fewer attention heads": self.block_heads,
            "blocks with fewer hidden units": self.block_hidden and not self.mlp_shortcut,
            "idle hidden units": self.block_active,
            "merged idle units": self.mlp_shortcut,
        }
        return [words for words, true in found.items() if true]

    @property
    def grid(self) -> tuple[int, int, int]:
        """Return tokens along time, height and width."""
        height, width = self.image_size
        return self.frames // self.tubelet, height // self.patch_size, width // self.patch_size

    @property
    def tokens_before(self) -> int:
        """Return tokens before the patches: the class token and the registers."""
        return int(self.class_token) + self.registers

    @property
    def weights(self) -> float:
        """Return how many numbers its blocks and its table of positions hold, about."""
        matmuls = 3 if self.gated_mlp else 2
        heads = sum(map(self.heads_of, range(self.depth))) * self.width // self.heads
        hidden = sum(map(self.hidden_of, range(self.depth)))
        blocks = self.width * (4 * heads + matmuls * hidden + self.mlp_shortcut * self.depth * self.width)
        return blocks + (math.prod(self.grid) * self.width if self.positions != "none" else 0)

    @property
    def values_per_patch(self) -> int:
        """Return pixel values that one token stands for."""
        return self.channels * self.tubelet * self.patch_size**2

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return asdict(self) | {"image_size": list(self.image_size)}


def stem_steps(width: int, patch: int) -> int:
    """Return how many convolutions of stride 2 lead down to patches of a size.

    Raises:
        ValueError: The patch is no power of two from 4 on, or the width cannot be halved so often.
    """
    steps = patch.bit_length() - 1
    if patch < 4 or 2**steps != patch or width % 2 ** (steps - 1):
        raise ValueError(
            "a stem of convolutions halves the image down to patches of 4, 8, 16 or 32 px and doubles its channels up "
            f"to the width: not for patches of {patch} px and width {width}"
        )
    return steps


def architecture(size: str, **fields) -> Architecture:
    """Return the `Architecture` of a named size, with any other field given by name."""
    if size not in SIZES:
        raise ValueError(f"unknown model size {size!r}; known: {', '.join(SIZES)}")
    width, depth, heads, mlp_ratio = SIZES[size]
    return Architecture(width, depth, heads, mlp_ratio, **fields)


@dataclass(frozen=True)
class Model:
    """The ViT that a recipe asks for.

    Attributes:
        size: micro, mini, tiny, small, base, large, huge or giant.
        image_size: Side of the square input, pixels.
        patch_size: Side of a patch, pixels.
        frames: Frames of a clip; 1 for images.
        tubelet: Frames that one token covers; 1 for images, 2 in VideoMAE.
        channels: 1 (grey) or 3.
        class_token: Whether the model has a class token.
        positions: learned, sine2d (images), sine1d (VideoMAE) or sine3d.
        drop_path: Stochastic depth at the last block.
        checkpoint_blocks: Gradient checkpointing: recompute the blocks (a decoder's too) in the backward pass; much
            less memory, about a third more time, the same result.
    """

    size: str = "small"
    image_size: int = field(default=224, metadata=within(1, LARGEST))
    patch_size: int = field(default=16, metadata=within(1, LARGEST))
    frames: int = field(default=1, metadata=within(1, LARGEST))
    tubelet: int = field(default=1, metadata=within(1, LARGEST))
    channels: int = field(default=1, metadata=within(1, 3))
    class_token: bool = True
    positions: str = "sine2d"
    drop_path: float = field(default=0.0, metadata=within(0, 1, exclude="high"))
    checkpoint_blocks: bool = False

    def __post_init__(self):
        check_ranges(self, "model")
        if self.channels not in (1, 3):
            raise UserError(f"model.channels {self.channels}: 1 (grey) or 3.")

    def architecture(self) -> Architecture:
        """Return the architecture of these settings."""
        return architecture(
            self.size,
            image_size=(self.image_size, self.image_size),
            patch_size=self.patch_size,
            frames=self.frames,
            tubelet=self.tubelet,
            channels=self.channels,
            class_token=self.class_token,
            positions=self.positions,
        )
