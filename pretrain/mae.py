"""Masked autoencoder: encode the visible tokens, decode the chosen masked ones, compare pixels.

He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners"; decoder masking after VideoMAE V2
(Wang et al. 2023). Parameter names of the decoder are those of the official MAE.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..backbone.patches import as_clip, gather_patches
from ..backbone.positions import position_table
from ..backbone.sizes import Architecture
from ..backbone.vit import LastTokensBlock, ViT, initialise, make_blocks, through, through_one
from ..backbone.weights import State, join_biases
from .masking import Masks
from .parts import take_part
from .recipe import Decoder

TARGETS = ("pixels", "patch", "channel")
DECODER = Decoder()  # of MAE
DECODER_NAMES = ("decoder_", "mask_token")  # of parameters


class Reconstruction(NamedTuple):
    """What a forward pass gives: the loss, and both sides of it.

    Attributes:
        loss: Scalar: squared error, mean over a token's values, then over the decoded tokens that count.
        prediction: (B, m, V) for the `target_ids`, values in order frame, row, column, channel.
        target: (B, m, V), normalised as the model's `target` says.
    """

    loss: Tensor
    prediction: Tensor
    target: Tensor


class MaskedAutoencoder(nn.Module):
    """A ViT encoder and a light decoder that reconstructs masked patches.

    Args:
        encoder: The ViT to pre-train; it has its final norm. Its gradient checkpointing is the decoder's too.
        decoder: Size of the decoder.
        target: `pixels` (the thorax paper), `patch` (MAE: normalised over all values of a patch) or `channel`
            (VideoMAE: per channel over the tubelet).
    """

    def __init__(self, encoder: ViT, decoder: Decoder = DECODER, target: str = "pixels"):
        super().__init__()
        if target not in TARGETS:
            raise ValueError(f"unknown target {target!r}; known: {', '.join(TARGETS)}")
        if decoder.depth < 1:
            raise ValueError(f"decoder depth {decoder.depth}: at least one block")
        if decoder.width % decoder.heads:
            raise ValueError(f"decoder width {decoder.width} is not a multiple of its heads {decoder.heads}")
        arch = encoder.arch
        self.encoder, self.target = encoder, target
        self.decoder_embed = nn.Linear(arch.width, decoder.width, bias=decoder.embed_bias)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder.width))
        table = position_table(decoder_positions(arch), arch.grid, decoder.width)
        if arch.class_token:
            table = torch.cat([torch.zeros(1, decoder.width), table])
        self.decoder_pos_embed = nn.Parameter(table.unsqueeze(0), requires_grad=False)
        self.decoder_blocks = make_blocks(
            decoder.width, decoder.depth, decoder.heads, decoder.mlp_ratio, last=LastTokensBlock
        )
        self.decoder_norm = nn.LayerNorm(decoder.width, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder.width, arch.values_per_patch)
        for name, part in self.named_children():
            if name != "encoder":
                initialise(part)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, x: Tensor, masks: Masks, pixels: Tensor | None = None) -> Reconstruction:
        """Reconstruct the tokens `target_ids` from the tokens `visible_ids`.

        Args:
            x: (B, C, H, W) or (B, C, T, H, W), normalised.
            masks: What the encoder sees, what is reconstructed, and which of that counts in the loss.
            pixels: The same in 0..1, where the target is made of that (VideoMAE); default `x`.
        """
        latent = self.encoder(x, masks.visible_ids).sequence()
        decoded = self.decode(latent, masks.visible_ids, masks.target_ids)
        prediction = self.decoder_pred(self.decoder_norm(decoded))
        target = self.targets(x if pixels is None else pixels, masks.target_ids)
        each = (prediction.float() - target).square().mean(dim=-1)
        loss = each.mean() if masks.loss_mask is None else (each * masks.loss_mask).sum() / masks.loss_mask.sum()
        return Reconstruction(loss, prediction, target)

    def decode(self, latent: Tensor, visible_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Return (B, m, d): class token if any, visible and mask tokens through the blocks, the mask tokens alone.

        Attention does not care for the order, so nothing is shuffled back; positions say where a token is.
        """
        tokens = self.decoder_embed(latent)
        table, extra = self.decoder_pos_embed, int(self.encoder.arch.class_token)
        ids = torch.cat([visible_ids, target_ids], dim=1) + extra
        positions = table.expand(len(ids), -1, -1).gather(1, ids.unsqueeze(-1).expand(-1, -1, table.shape[-1]))
        if extra:
            positions = torch.cat([table[:, :1].expand(len(ids), -1, -1), positions], dim=1)
        masks = self.mask_token.to(tokens.dtype).expand(len(ids), target_ids.shape[1], -1)
        tokens = torch.cat([tokens, masks], dim=1) + positions
        recompute = self.encoder.checkpoint_blocks and self.training
        tokens = through(self.decoder_blocks[:-1], tokens, recompute)
        return through_one(self.decoder_blocks[-1], recompute, tokens, target_ids.shape[1])

    def targets(self, x: Tensor, ids: Tensor) -> Tensor:
        """Return the (B, m, V) float32 targets of the tokens `ids`; gathered first, normalised after."""
        arch = self.encoder.arch
        patches = gather_patches(as_clip(x), arch.patch_size, arch.tubelet, ids).float()
        values = patches.permute(0, 1, 3, 4, 5, 2)
        return normalise_targets(values.flatten(2, 4), self.target).flatten(2)


def decoder_positions(arch: Architecture) -> str:
    """Return the decoder's kind of positions, which are never learned: the encoder's, or sines of the same axes."""
    if arch.positions.startswith("sine"):
        return arch.positions
    return "sine2d" if arch.frames == 1 else "sine3d"


def normalise_targets(values: Tensor, how: str) -> Tensor:
    """Normalise targets (B, m, P, C), P the pixels of a token.

    `patch` (MAE): mean and unbiased variance over all P*C values, epsilon 1e-6 inside the root.
    `channel` (VideoMAE): per channel over the P pixels, epsilon 1e-6 outside the root.
    """
    if how == "pixels":
        return values
    if how == "patch":
        mean = values.mean(dim=(2, 3), keepdim=True)
        return (values - mean) / (values.var(dim=(2, 3), keepdim=True) + 1e-6).sqrt()
    # Not `var`, which takes several times as long over values that lie apart.
    centred = values - values.mean(dim=2, keepdim=True)
    variance = centred.square().sum(dim=2, keepdim=True) / (values.shape[2] - 1)
    return centred / (variance.sqrt() + 1e-6)


def load_official(mae: MaskedAutoencoder, state: dict[str, Tensor]) -> None:
    """Load a whole official checkpoint of MAE, VideoMAE or VideoMAE V2, encoder and decoder, strictly.

    Args:
        mae: A model of the same sizes and channels; for VideoMAE its decoder has no `embed_bias`.
        state: Names as in the official models (section "model" of the file).
    """
    if _is_video(state):
        ours = {_from_video(name): value for name, value in join_biases(state).items()}
        # VideoMAE's files hold no position tables.
        ours |= {name: value for name, value in mae.state_dict().items() if name.endswith("pos_embed")}
    else:
        ours = {name if name.startswith(DECODER_NAMES) else f"encoder.{name}": value for name, value in state.items()}
    mae.load_state_dict(ours, strict=True)


def load_decoder(mae: MaskedAutoencoder, state: State) -> str:
    """Set the decoder from a whole checkpoint where that has one of the same sizes; return what became of it, in words.

    The table of positions stays: it is computed for the model's own input.

    Args:
        mae: The model.
        state: From `whole_state`.
    """
    named = {_from_video(name): value for name, value in state.items()} if _is_video(state) else state
    found = {name: value for name, value in named.items() if name.startswith(DECODER_NAMES)}
    if "decoder_pred.weight" not in found:
        found = {}  # a mask token alone is DINOv2's
    found.pop("decoder_pos_embed", None)
    own = [name for name in mae.state_dict() if name.startswith(DECODER_NAMES) and name != "decoder_pos_embed"]
    return take_part(mae, found, own)


def _is_video(state: State) -> bool:
    return "encoder_to_decoder.weight" in state


def _from_video(name: str) -> str:
    """Return a name of VideoMAE's pre-training model as ours, which is MAE's."""
    for theirs, ours in (
        ("encoder_to_decoder.", "decoder_embed."),
        ("decoder.head.", "decoder_pred."),
        ("decoder.", "decoder_"),
    ):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
