"""Rotary positions: queries and keys are turned by angles that grow with a patch's place (Su et al. 2021).

A turn is a pair of tables (cosines, sines), each (..., M, d) for M tokens and d channels of a head. Tokens before the
patches have cosine 1 and sine 0: they are not turned.
"""

import math

import torch
from torch import Tensor, nn

from .positions import Grid
from .sizes import Rotary

Turn = tuple[Tensor, Tensor]


class RotaryPositions(nn.Module):
    """Gives the turns of a ViT's tokens.

    Args:
        rotary: How angles come from places.
        grid: Tokens along time, height and width of the usual input, whose tables are kept.
        heads: Attention heads.
        channels: Channels d of a head.
        before: Tokens before the patches.
        depth: Blocks.
    """

    def __init__(self, rotary: Rotary, grid: Grid, heads: int, channels: int, before: int, depth: int):
        super().__init__()
        self.cosines: Tensor
        self.sines: Tensor
        least = 6 if rotary.kind == "clip" else 4
        if channels < least or (rotary.kind != "clip" and channels % 4):
            raise ValueError(f"rotary positions need heads of a multiple of 4 channels, at least {least}: {channels}")
        self.rotary, self.grid, self.channels, self.before, self.depth = rotary, grid, channels, before, depth
        if rotary.kind == "mixed":
            self.freqs = nn.Parameter(_random_frequencies(rotary.base, depth, heads, channels))
        else:
            cosines, sines = self._tables(grid, "cpu")
            self.register_buffer("cosines", cosines, persistent=False)
            self.register_buffer("sines", sines, persistent=False)

    def forward(self, grid: Grid, visible_ids: Tensor | None = None) -> list[Turn]:
        """Return the turn of each block.

        Args:
            grid: Tokens along time, height and width.
            visible_ids: (B, n) indices of the patches that are encoded, or None for all.
        """
        if self.rotary.kind == "mixed":
            return [self._visible(self._padded(*each), visible_ids) for each in self._learned(grid)]
        tables = (self.cosines, self.sines) if grid == self.grid else self._tables(grid, self.cosines.device)
        return [self._visible(tables, visible_ids)] * self.depth

    def _tables(self, grid: Grid, device) -> Turn:
        rotary = self.rotary
        kind = {"axial": _axial, "centred": _centred, "clip": _clip}[rotary.kind]
        angles = kind(rotary, grid, self.channels, device)
        return self._padded(angles.cos(), angles.sin())

    def _learned(self, grid: Grid) -> list[Turn]:
        places = _places(grid, self.freqs.device, self.rotary.columns_first)
        frequencies = self.freqs.float()
        first, second = (place[:, None] * frequencies[i].unsqueeze(-2) for i, place in enumerate(places))
        angles = (first + second).repeat_interleave(2, dim=-1)
        return list(zip(angles.cos(), angles.sin(), strict=True))

    def _padded(self, cosines: Tensor, sines: Tensor) -> Turn:
        shape = (*cosines.shape[:-2], self.before, cosines.shape[-1])
        return torch.cat([cosines.new_ones(shape), cosines], -2), torch.cat([sines.new_zeros(shape), sines], -2)

    def _visible(self, tables: Turn, ids: Tensor | None) -> Turn:
        if ids is None:
            return tables
        first = torch.arange(self.before, device=ids.device).expand(len(ids), -1)
        # (B, M): of (M, d) or (heads, M, d) tables come (B, 1, M, d) or (B, heads, M, d).
        ids = torch.cat([first, ids + self.before], dim=1)
        cosines, sines = (table[ids].unsqueeze(1) if table.ndim == 2 else table[:, ids].transpose(0, 1)
                          for table in tables)  # fmt: skip
        return cosines, sines


def turned(x: Tensor, turn: Turn, halves: bool) -> Tensor:
    """Return (B, heads, M, d) queries or keys, turned in float32, in their own type."""
    cosines, sines = turn
    if halves:
        first, second = x.chunk(2, dim=-1)
        across = torch.cat([-second, first], dim=-1)
    else:
        across = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return (x * cosines + across * sines).to(x.dtype)


def _places(grid: Grid, device, columns_first: bool) -> list[Tensor]:
    """Return rows and columns (N,) float32 of the patches of an image, in the order asked for."""
    rows, columns = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float32, device=device) for side in grid[1:]), indexing="ij"
    )
    places = [rows.flatten().repeat(grid[0]), columns.flatten().repeat(grid[0])]
    return places[::-1] if columns_first else places


def _laid_out(angles: Tensor, halves: bool) -> Tensor:
    return torch.cat([angles, angles], dim=-1) if halves else angles.repeat_interleave(2, dim=-1)


def _axial(rotary: Rotary, grid: Grid, channels: int, device) -> Tensor:
    """Return (N, d): a quarter of the channels holds the frequencies, for rows and for columns."""
    sides, wanted = grid[1:], rotary.grid or grid[1:]
    if rotary.columns_first:
        sides, wanted = sides[::-1], wanted[::-1]
    places = _places(grid, device, rotary.columns_first)
    places = [(place + rotary.offset) / side * to for place, side, to in zip(places, sides, wanted, strict=True)]
    bands = rotary.base ** -(torch.arange(channels // 4, dtype=torch.float32, device=device) / (channels // 4))
    return _laid_out(torch.cat([place[:, None] * bands for place in places], dim=1), rotary.halves)


def _centred(rotary: Rotary, grid: Grid, channels: int, device) -> Tensor:
    sides = grid[1:][::-1] if rotary.columns_first else grid[1:]
    places = _places(grid, device, rotary.columns_first)
    places = [2 * ((place + 0.5) / side) - 1 for place, side in zip(places, sides, strict=True)]
    periods = rotary.base ** (torch.arange(channels // 4, dtype=torch.float32, device=device) / (channels // 4))
    return _laid_out(torch.cat([2 * math.pi * place[:, None] / periods for place in places], dim=1), rotary.halves)


def _clip(rotary: Rotary, grid: Grid, channels: int, device) -> Tensor:
    """Return (N, d): a third of the channels, rounded down to even, for each axis; the rest is not turned.

    Frequencies lie as for halves and neighbours are turned, as in V-JEPA 2's code.
    """
    part = channels // 3 // 2 * 2
    bands = rotary.base ** -(torch.arange(part // 2, dtype=torch.float32, device=device) / (part / 2))
    frames = torch.arange(grid[0], dtype=torch.float32, device=device).repeat_interleave(grid[1] * grid[2])
    places = [frames, *_places(grid, device, False)]
    angles = [torch.cat([place[:, None] * bands] * 2, dim=1) for place in places]
    return torch.cat([*angles, frames.new_zeros(len(frames), channels - 3 * part)], dim=1)


def _random_frequencies(base: float, depth: int, heads: int, channels: int) -> Tensor:
    """Return (2, depth, heads, d / 2) frequencies of both axes, each head's at a random angle (Heo et al. 2024)."""
    sizes = base ** -(torch.arange(channels // 4, dtype=torch.float32) / (channels // 4))
    angle = torch.rand(depth, heads, 1) * 2 * math.pi
    along = [torch.cat([sizes * angle.cos(), sizes * (angle + math.pi / 2).cos()], dim=-1)]
    along += [torch.cat([sizes * angle.sin(), sizes * (angle + math.pi / 2).sin()], dim=-1)]
    return torch.stack(along)
