"""Images and clips to patches and back, and the patch embedding that projects only the patches it is asked for."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def as_clip(x: Tensor) -> Tensor:
    """Return (B, C, H, W) images as (B, C, 1, H, W) clips; clips stay as they are."""
    if x.ndim == 4:
        return x.unsqueeze(2)
    if x.ndim == 5:
        return x
    raise ValueError(f"expected (B, C, H, W) images or (B, C, T, H, W) clips, got {tuple(x.shape)}")


def patch_view(x: Tensor, patch: int, tubelet: int) -> Tensor:
    """Return (B, C, T, H, W) seen, without a copy, as (B, T/t, H/p, W/p, C, t, p, p)."""
    batch, channels, frames, height, width = x.shape
    if frames % tubelet or height % patch or width % patch:
        raise ValueError(
            f"input of {frames} x {height} x {width} (frames, height, width) does not divide into "
            f"tubelets of {tubelet} and patches of {patch}"
        )
    x = x.view(batch, channels, frames // tubelet, tubelet, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7)


def gather_patches(x: Tensor, patch: int, tubelet: int, ids: Tensor | None = None) -> Tensor:
    """Return the patches of a clip as (B, n, C, t, p, p), all of them or those of `ids`; only these pixels are copied.

    Args:
        x: (B, C, T, H, W).
        patch: Side p of a patch, px.
        tubelet: Frames t of a patch.
        ids: (B, n) token indices in order (t * H + h) * W + w, or None for all.
    """
    view = patch_view(x.contiguous(), patch, tubelet)
    if ids is None:
        return view.flatten(1, 3)
    rows, columns = view.shape[2], view.shape[3]
    clip = torch.arange(len(ids), device=ids.device)[:, None]
    return view[clip, ids // (rows * columns), ids // columns % rows, ids % columns]


def scatter_patches(patches: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Undo `gather_patches` without ids: (B, N, C, t, p, p) to (B, C, T, H, W)."""
    batch, _, channels, tubelet, patch, _ = patches.shape
    times, rows, columns = grid
    x = patches.view(batch, times, rows, columns, channels, tubelet, patch, patch)
    x = x.permute(0, 4, 1, 5, 2, 6, 3, 7)
    return x.reshape(batch, channels, times * tubelet, rows * patch, columns * patch)


class PatchEmbed(nn.Module):
    """Linear projection of patches (2-D) or tubelets (3-D), with the weights of a convolution (timm's names).

    Args:
        channels: Input channels.
        width: Output channels D.
        patch: Side of a patch, pixels.
        tubelet: Frames in a token; 1 gives the (D, C, p, p) weight of an image model.
        norm: Of what is projected; none by default.
    """

    def __init__(self, channels: int, width: int, patch: int, tubelet: int = 1, norm: nn.Module | None = None):
        super().__init__()
        self.patch, self.tubelet = patch, tubelet
        self.proj: nn.Conv2d | nn.Conv3d
        if tubelet == 1:
            self.proj = nn.Conv2d(channels, width, patch, patch)
        else:
            self.proj = nn.Conv3d(channels, width, (tubelet, patch, patch), (tubelet, patch, patch))
        self.norm = norm or nn.Identity()

    def forward(self, x: Tensor, ids: Tensor | None = None) -> Tensor:
        """Project (B, C, T, H, W) to (B, n, D), for all tokens or for `ids` (B, n)."""
        patches = gather_patches(x, self.patch, self.tubelet, ids).flatten(2)
        return self.norm(F.linear(patches, self.proj.weight.flatten(1), self.proj.bias))
