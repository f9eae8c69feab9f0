"""Which tokens the encoder sees and which the decoder rebuilds: pure functions from noise to token indices.

Indices rather than boolean masks, so that polarity cannot be confused. Everything is batched on the device of
the noise; nothing is drawn inside the models.
"""

import torch
from torch import Tensor


def noise(batch: int, tokens: int, generator: torch.Generator) -> Tensor:
    """(B, N) uniform noise on the generator's device."""
    return torch.rand(batch, tokens, generator=generator, device=generator.device)


def visible_count(tokens: int, ratio: float) -> int:
    """How many of N tokens stay visible at a mask ratio: int(N * (1 - ratio)), as MAE rounds."""
    if not 0 < ratio < 1:
        raise ValueError(f"mask ratio {ratio} is not between 0 and 1")
    count = int(tokens * (1 - ratio))
    if count == 0:
        raise ValueError(f"at mask ratio {ratio} none of {tokens} tokens stays visible; use smaller patches or ratio")
    return count


def random_masking(noise: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Split tokens by noise (He et al. 2022): the smallest values stay visible.

    Args:
        noise: (B, N), any device.
        ratio: Share of tokens that is hidden.

    Returns:
        `visible_ids` (B, n) and `hidden_ids` (B, N - n), both in order of rising noise, so that any prefix of
        `hidden_ids` is itself a random choice.
    """
    count = visible_count(noise.shape[1], ratio)
    order = noise.argsort(dim=1)
    return order[:, :count], order[:, count:]


def decoder_masking(hidden_ids: Tensor, decode_ratio: float) -> Tensor:
    """Keep a random share of the hidden tokens for the decoder (VideoMAE V2's idea, for pictures).

    Args:
        hidden_ids: (B, m) from `random_masking`.
        decode_ratio: Share of them to rebuild; 1 rebuilds all (MAE).
    """
    if not 0 < decode_ratio <= 1:
        raise ValueError(f"decode ratio {decode_ratio} is not within 0..1 (0 excluded)")
    return hidden_ids[:, : max(1, round(hidden_ids.shape[1] * decode_ratio))]
