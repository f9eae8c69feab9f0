"""Which tokens the encoder sees and which the decoder reconstructs: pure functions from random draws to token indices.

Indices rather than boolean masks, so that polarity cannot be confused. Everything is batched on the device of
the draw; nothing is drawn inside the models. A grid is (T, H, W) tokens; token (t, h, w) has index (t * H + h) * W + w.
"""

from typing import NamedTuple

import torch
from torch import Tensor

Grid = tuple[int, int, int]
ENCODER_MASKS, DECODER_MASKS = ("random", "tube"), ("random", "running_cell")


class Masks(NamedTuple):
    """What a masked autoencoder needs to know of a batch.

    Attributes:
        visible_ids: (B, n) tokens that the encoder sees.
        target_ids: (B, m) tokens that the decoder reconstructs.
        loss_mask: (B, m) bool: which of these count in the loss, or None for all. Running cells do not ask what the
            encoder saw; what it saw is reconstructed too, and not loss_mask.
    """

    visible_ids: Tensor
    target_ids: Tensor
    loss_mask: Tensor | None = None

    def share(self, rank: int, world: int) -> "Masks":
        """Return the part of one process of a run over several."""
        parts = {name: part.chunk(world)[rank] for name, part in self._asdict().items() if part is not None}
        return self._replace(**parts)


def draw_masks(
    grid: Grid,
    batch: int,
    generator: torch.Generator,
    *,
    mask: str,
    mask_ratio: float,
    decoder_mask: str = "random",
    decode_ratio: float = 1.0,
    reconstruct_visible: bool = True,
) -> Masks:
    """Draw the masks of a batch on the generator's device.

    Args:
        grid: Tokens along time, height and width.
        batch: B.
        generator: Source of every draw.
        mask: `random` (MAE) or `tube` (VideoMAE: the same spatial positions at every time).
        mask_ratio: Share of the tokens masked from the encoder.
        decoder_mask: `random` (a share of the masked tokens) or `running_cell` (VideoMAE V2: a share of all).
        decode_ratio: That share.
        reconstruct_visible: Running cells reconstruct, uncounted, what the encoder saw, as VideoMAE V2 does; else these
            tokens are left out, which saves their cost.

    Raises:
        ValueError: An unknown mask, a ratio out of range, or a grid that the masks do not fit.
    """
    times, rows, columns = grid
    if mask == "tube":
        visible, masked = tube_masking(noise(batch, rows * columns, generator), times, mask_ratio)
    elif mask == "random":
        visible, masked = random_masking(noise(batch, times * rows * columns, generator), mask_ratio)
    else:
        raise ValueError(f"unknown mask {mask!r}; known: {', '.join(ENCODER_MASKS)}")
    if decode_ratio == 1:
        return Masks(visible, masked)
    if decoder_mask == "random":
        if mask == "tube":
            masked = masked.gather(1, noise(batch, masked.shape[1], generator).argsort(dim=1))
        return Masks(visible, decoder_masking(masked, decode_ratio))
    if decoder_mask != "running_cell":
        raise ValueError(f"unknown decoder mask {decoder_mask!r}; known: {', '.join(DECODER_MASKS)}")
    phase = torch.randint(4, (batch,), generator=generator, device=generator.device)
    target = running_cells(phase, grid, decode_ratio)
    seen = torch.zeros(batch, times * rows * columns, dtype=torch.bool, device=phase.device).scatter(1, visible, True)
    loss_mask = ~seen.gather(1, target)
    if reconstruct_visible:
        return Masks(visible, target, loss_mask)
    if mask != "tube" or times % 4:
        raise ValueError(
            "reconstruct_visible false needs the same number of tokens in every clip: mask 'tube' and a multiple of 4 "
            f"temporal positions, not mask {mask!r} and {times} temporal positions"
        )
    return Masks(visible, target[loss_mask].view(batch, -1))


def noise(batch: int, tokens: int, generator: torch.Generator) -> Tensor:
    """Return (B, N) uniform noise on the generator's device."""
    return torch.rand(batch, tokens, generator=generator, device=generator.device)


def visible_count(tokens: int, ratio: float) -> int:
    """Return how many of N tokens stay visible at a mask ratio: int(N * (1 - ratio)), as MAE rounds."""
    return _some(int(tokens * (1 - _within(ratio))), tokens, ratio)


def random_masking(noise: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Split tokens by noise (He et al. 2022): the smallest values stay visible.

    Args:
        noise: (B, N), any device.
        ratio: Share of tokens that is masked.

    Returns:
        `visible_ids` (B, n) and `masked_ids` (B, N - n), both in order of rising noise, so that any prefix of
        `masked_ids` is itself a random choice.
    """
    return _split(noise, visible_count(noise.shape[1], ratio))


def tube_masking(noise: Tensor, times: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Split tokens by noise over the spatial positions of a frame, the same at every time (VideoMAE).

    Args:
        noise: (B, H*W), any device.
        times: Temporal positions T.
        ratio: Share of the spatial positions that is masked; int(H*W * ratio) of them, as VideoMAE rounds.

    Returns:
        `visible_ids` (B, T*n) and `masked_ids` (B, T*(H*W - n)), one temporal position after another.
    """
    places = noise.shape[1]
    count = _some(places - int(places * _within(ratio)), places, ratio)
    start = torch.arange(times, device=noise.device).view(1, -1, 1) * places
    visible, masked = ((part.unsqueeze(1) + start).flatten(1) for part in _split(noise, count))
    return visible, masked


def running_cells(phase: Tensor, grid: Grid, decode_ratio: float) -> Tensor:
    """Return the tokens that the decoder reconstructs under running cells (VideoMAE V2, section 3.2).

    Cells of 2 x 2 tokens drop int(4 * (1 - decode_ratio)) of their tokens each. Which ones moves on by one from each
    temporal position to the next, so that over four of them every spatial position is reconstructed.

    Args:
        phase: (B,) where the cell starts, 0..3.
        grid: T, H, W; H and W even.
        decode_ratio: Share of the tokens to reconstruct: 0.25, 0.5 or 0.75.

    Returns:
        `target_ids` (B, m) in rising order.
    """
    _, rows, columns = grid
    if decode_ratio not in (0.25, 0.5, 0.75):
        raise ValueError(f"running cells decode 0.25, 0.5 or 0.75 of the tokens (or 1: no mask), not {decode_ratio}")
    if rows % 2 or columns % 2:
        raise ValueError(f"running cells of 2 x 2 do not fit a grid of {rows} x {columns} tokens; use another size")
    dropped, device = int(4 * (1 - decode_ratio)), phase.device
    time, row, column = (torch.arange(size, device=device) for size in grid)
    place = (row % 2)[:, None] * 2 + column % 2
    turn = phase[:, None] + time + 1
    dropped_here = (place + turn[..., None, None]) % 4 < dropped
    kept = ~dropped_here.flatten(1)
    return kept.nonzero()[:, 1].view(len(phase), -1)


def decoder_masking(masked_ids: Tensor, decode_ratio: float) -> Tensor:
    """Keep a random share of the masked tokens for the decoder (VideoMAE V2's idea, for images).

    Args:
        masked_ids: (B, m) from `random_masking`.
        decode_ratio: Share of them to reconstruct; 1 reconstructs all (MAE).
    """
    if not 0 < decode_ratio <= 1:
        raise ValueError(f"decode ratio {decode_ratio} is not within 0..1 (0 excluded)")
    return masked_ids[:, : max(1, round(masked_ids.shape[1] * decode_ratio))]


def _split(noise: Tensor, count: int) -> tuple[Tensor, Tensor]:
    order = noise.argsort(dim=1)
    return order[:, :count], order[:, count:]


def _within(ratio: float) -> float:
    if not 0 < ratio < 1:
        raise ValueError(f"mask ratio {ratio} is not between 0 and 1")
    return ratio


def _some(count: int, tokens: int, ratio: float) -> int:
    if count == 0:
        raise ValueError(f"at mask ratio {ratio} none of {tokens} tokens stays visible; use smaller patches or ratio")
    return count
