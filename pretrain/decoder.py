"""An encoder and the light decoder that says what stands at tokens the encoder did not see, pixels or features.

Parameter names are those of the official MAE.
"""

import torch
from torch import Tensor, nn

from ..backbone.positions import position_table
from ..backbone.sizes import Architecture
from ..backbone.vit import LastTokensBlock, ViT, initialise, make_blocks, through, through_one
from ..backbone.weights import State
from .parts import take_part
from .recipe import Decoder

NAMES = ("decoder_", "mask_token")  # of the decoder's parameters


class EncoderDecoder(nn.Module):
    """A ViT encoder and a light decoder.

    Args:
        encoder: The ViT to pre-train; it has its final norm. Its gradient checkpointing is the decoder's too.
        decoder: Size of the decoder.
        values: V values that the decoder predicts of a token.
    """

    def __init__(self, encoder: ViT, decoder: Decoder, values: int):
        super().__init__()
        if decoder.depth < 1:
            raise ValueError(f"decoder depth {decoder.depth}: at least one block")
        if decoder.width % decoder.heads:
            raise ValueError(f"decoder width {decoder.width} is not a multiple of its heads {decoder.heads}")
        arch = encoder.arch
        self.encoder = encoder
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
        self.decoder_pred = nn.Linear(decoder.width, values)
        for name, part in self.named_children():
            if name != "encoder":
                initialise(part)
        nn.init.normal_(self.mask_token, std=0.02)

    def predict(
        self, x: Tensor, visible_ids: Tensor, target_ids: Tensor, mask_token: Tensor | None = None
    ) -> Tensor:  # fmt: skip
        """Return what is predicted of the tokens `target_ids` (B, m, V) from the tokens `visible_ids` alone.

        Args:
            x: (B, C, H, W) or (B, C, T, H, W), normalised.
            visible_ids: (B, n) tokens that the encoder sees.
            target_ids: (B, m) tokens to predict.
            mask_token: As of `decode`.
        """
        latent = self.encoder(x, visible_ids).sequence()
        decoded = self.decode(latent, visible_ids, target_ids, mask_token)
        return self.decoder_pred(self.decoder_norm(decoded))

    def decode(
        self, latent: Tensor, visible_ids: Tensor, target_ids: Tensor, mask_token: Tensor | None = None
    ) -> Tensor:  # fmt: skip
        """Return (B, m, d): class token if any, visible and mask tokens through the blocks, the mask tokens alone.

        Attention does not care for the order, so nothing is shuffled back; positions say where a token is.

        Args:
            latent: (B, [1 +] n, D) of the encoder.
            visible_ids: (B, n) tokens that the encoder saw.
            target_ids: (B, m) tokens to predict.
            mask_token: (1, 1, d) that stands for each of these; None for the module's own.
        """
        tokens = self.decoder_embed(latent)
        table, extra = self.decoder_pos_embed, int(self.encoder.arch.class_token)
        ids = torch.cat([visible_ids, target_ids], dim=1) + extra
        positions = table.expand(len(ids), -1, -1).gather(1, ids.unsqueeze(-1).expand(-1, -1, table.shape[-1]))
        if extra:
            positions = torch.cat([table[:, :1].expand(len(ids), -1, -1), positions], dim=1)
        asked = self.mask_token if mask_token is None else mask_token
        masks = asked.to(tokens.dtype).expand(len(ids), target_ids.shape[1], -1)
        tokens = torch.cat([tokens, masks], dim=1) + positions
        recompute = self.encoder.checkpoint_blocks and self.training
        tokens = through(self.decoder_blocks[:-1], tokens, recompute)
        return through_one(self.decoder_blocks[-1], recompute, tokens, target_ids.shape[1])


def decoder_positions(arch: Architecture) -> str:
    """Return the decoder's kind of positions, which are never learned: the encoder's, or sines of the same axes."""
    if arch.positions.startswith("sine"):
        return arch.positions
    return "sine2d" if arch.frames == 1 else "sine3d"


def take_decoder(model: EncoderDecoder, found: State) -> str:
    """Set the decoder from one of the same sizes; return what became of it, in words.

    The table of positions stays: it is computed for the model's own input.

    Args:
        model: The model.
        found: The decoder's tensors in a checkpoint, by our names; empty where it has none.
    """
    found = {name: value for name, value in found.items() if name != "decoder_pos_embed"}
    own = [name for name in model.state_dict() if name.startswith(NAMES) and name != "decoder_pos_embed"]
    return take_part(model, found, own)
