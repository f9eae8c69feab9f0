"""Position tables: 2-D sine (MAE), 1-D sine (VideoMAE), 3-D sine, and one resize for all of them.

A grid is (T, H, W) tokens; the token of (t, h, w) has index (t * H + h) * W + w.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

Grid = tuple[int, int, int]


def position_table(kind: str, grid: Grid, width: int) -> Tensor:
    """Return (N, D) float32 table for the N = T*H*W tokens of `grid`.

    Args:
        kind: `sine2d`, `sine1d`, `sine3d`, or `learned` (the values to start learning from: normal, std 0.02).
        grid: Tokens along time, height and width.
        width: Channels D.
    """
    match kind:
        case "sine2d":
            if grid[0] != 1:
                raise ValueError(
                    f"positions 'sine2d' are for images, not for {grid[0]} temporal positions; use 'sine3d'"
                )
            return sine_2d(grid[1], grid[2], width)
        case "sine1d":
            return sine_1d(grid[0] * grid[1] * grid[2], width)
        case "sine3d":
            return sine_3d(grid, width)
        case "learned":
            return torch.nn.init.trunc_normal_(torch.empty(grid[0] * grid[1] * grid[2], width), std=0.02)
    raise ValueError(f"unknown positions {kind!r}; known: learned, sine2d, sine1d, sine3d")


def sine_2d(height: int, width: int, channels: int) -> Tensor:
    """Return (H*W, D).

    The first half of the channels encodes the column, the second the row (MAE, util/pos_embed.py).
    """
    if channels % 4:
        raise ValueError(f"2-D sine positions need a width that is a multiple of 4, not {channels}")
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    halves = [_waves(columns.flatten(), channels // 2), _waves(rows.flatten(), channels // 2)]
    return torch.cat(halves, dim=1).float()


def sine_1d(length: int, channels: int) -> Tensor:
    """Return (N, D).

    Sine on even and cosine on odd channels of the flat token index (VideoMAE, modeling_finetune.py).
    """
    channel = torch.arange(channels, dtype=torch.float64)
    angle = torch.arange(length, dtype=torch.float64)[:, None] / 10000 ** (2 * (channel // 2) / channels)
    return torch.where(channel.long() % 2 == 0, angle.sin(), angle.cos()).float()


def sine_3d(grid: Grid, channels: int) -> Tensor:
    """Return (T*H*W, D).

    A quarter of the channels (rounded to even) encodes time, the rest column and row as `sine_2d`.
    """
    time = channels // 4 // 2 * 2
    space = channels - time
    if space % 4:
        time, space = time - space % 4, space + space % 4
    in_time = _waves(torch.arange(grid[0]), time).float()
    in_space = sine_2d(grid[1], grid[2], space)
    return torch.cat([in_time.repeat_interleave(len(in_space), dim=0), in_space.repeat(grid[0], 1)], dim=1)


def resize_positions(
    table: Tensor, old: Grid, new: Grid, offset: float = 0.0, antialias: bool = False, mode: str = "bicubic"
) -> Tensor:
    """Resample a (N, D) table from the grid `old` to the grid `new`.

    Within a frame bicubic (align_corners False, as MAE and DINO do) unless said otherwise, linear over time.

    Args:
        table: (N, D), N the tokens of `old`.
        old: Tokens along time, height and width.
        new: The same of the result.
        offset: Added to the rows and columns of `new` where the scale of the resampling is computed: 0.1 gives the
            values that DINO's weights were trained with (its guard against rounding, vision_transformer.py).
        antialias: Whether to smooth where `new` is smaller (timm, DINOv2 with registers).
        mode: `bicubic`, or `bilinear` (SigLIP 2 in its own sizes).
    """
    if old == new:
        return table
    if len(table) != old[0] * old[1] * old[2]:
        raise ValueError(f"the table has {len(table)} positions, the grid {old} has {old[0] * old[1] * old[2]}")
    dtype, table = table.dtype, table.float()
    channels = table.shape[1]
    if old[1:] != new[1:]:
        frames = table.reshape(old[0], old[1], old[2], channels).permute(0, 3, 1, 2)
        if offset:
            scale = ((new[1] + offset) / old[1], (new[2] + offset) / old[2])
            frames = F.interpolate(frames, scale_factor=scale, mode=mode, align_corners=False, antialias=antialias)
        else:
            frames = F.interpolate(frames, size=new[1:], mode=mode, align_corners=False, antialias=antialias)
        table = frames.permute(0, 2, 3, 1).reshape(-1, channels)
    if old[0] != new[0]:
        times = table.reshape(1, old[0], -1).transpose(1, 2)
        times = F.interpolate(times, size=new[0], mode="linear", align_corners=False)
        table = times.transpose(1, 2).reshape(-1, channels)
    return table.to(dtype)


def _waves(position: Tensor, channels: int) -> Tensor:
    """Return (N, C) float64: sines, then cosines, at C/2 wavelengths from 1 to 10000."""
    omega = 10000 ** -(torch.arange(channels // 2, dtype=torch.float64) / (channels / 2))
    angle = position.double()[:, None] * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1)
