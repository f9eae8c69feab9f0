"""Attention within windows of the grid, for large inputs: cost grows with the number of tokens, not with its square.

As of ViTDet (Li et al. 2022, section 3) and IML-ViT (Ma et al. 2023): four blocks see the whole image. Where a grid
does not divide into windows, theirs are padded; here windows are nearly equal, so that no token attends to nothing.
Tokens before the patches stand in every window, and are the mean over the windows afterwards.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

WHOLE = 4  # blocks that see the whole image


def whole_blocks(depth: int) -> set[int]:
    """Return the numbers of the blocks that see the whole image: 2, 5, 8 and 11 of 12, the last of each quarter."""
    return {round((part + 1) * depth / WHOLE) - 1 for part in range(WHOLE)} - {-1}


def windowed(block: nn.Module, tokens: Tensor, grid: tuple[int, int], window: int, before: int) -> Tensor:
    """Return tokens (B, before + N, D) through a block whose attention stays within windows of the grid.

    Args:
        block: Takes and gives (B, n, D).
        tokens: `before` tokens without a position, then the N patches of the grid, row by row.
        grid: Rows and columns.
        window: Tokens along a side of a window, at most.
        before: Tokens before the patches.
    """
    first, patches = tokens[:, :before], tokens[:, before:].unflatten(1, grid)
    rows, shared = [], []
    for top, bottom in _pieces(grid[0], window):
        row = []
        for left, right in _pieces(grid[1], window):
            part = patches[:, top:bottom, left:right]
            found = block(torch.cat([first, part.flatten(1, 2)], dim=1))
            shared.append(found[:, :before])
            row.append(found[:, before:].unflatten(1, part.shape[1:3]))
        rows.append(torch.cat(row, dim=2))
    joined = torch.cat(rows, dim=1).flatten(1, 2)
    return torch.cat([torch.stack(shared).mean(dim=0), joined], dim=1)


def _pieces(length: int, longest: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of nearly equal pieces."""
    count = -(-length // longest)
    for piece in range(count):
        yield piece * length // count, (piece + 1) * length // count
