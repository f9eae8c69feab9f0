"""Pictures of original, masked and rebuilt, to see what pre-training has learned."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..backbone.patches import as_clip, gather_patches, scatter_patches
from .mae import MaskedAutoencoder
from .masking import Masks

GAP, TITLE, SIDE = 8, 28, 224
COLUMNS = ("original", "visible", "rebuilt")


@torch.no_grad()
def reconstruction_sheet(mae: MaskedAutoencoder, x: Tensor, masks: Masks) -> np.ndarray:
    """One row per picture (of clips two frames): original, what the encoder saw, and that with the rest rebuilt.

    Normalised targets are brought back with the mean and spread of the true patch, so there the picture shows the
    rebuilt structure on the original's own brightness.

    Args:
        mae: The model, in eval mode.
        x: (B, C, H, W) or (B, C, T, H, W) normalised.
        masks: All that is hidden is to be rebuilt.

    Returns:
        (height, width) uint8, grey: three titled columns, pictures at least 224 px high.
    """
    arch = mae.encoder.arch
    out, hidden_ids = mae(x, masks), masks.target_ids
    clips = as_clip(x)
    patches = gather_patches(clips, arch.patch_size, arch.tubelet)
    plain = patches.permute(0, 1, 3, 4, 5, 2).flatten(2, 4)
    truth = plain.gather(1, hidden_ids[..., None, None].expand(-1, -1, *plain.shape[2:]))
    rebuilt = out.prediction.float().reshape(truth.shape)
    if mae.target != "pixels":
        axes = (2, 3) if mae.target == "patch" else (2,)
        rebuilt = rebuilt * truth.std(dim=axes, keepdim=True) + truth.mean(dim=axes, keepdim=True)
    low, high = (each.view(-1, 1, 1, 1, 1) for each in (clips.flatten(1).amin(dim=1), clips.flatten(1).amax(dim=1)))
    grey = (low + high)[..., 0] / 2
    columns = [clips]
    for values in (grey.expand_as(truth), rebuilt):
        index = hidden_ids[..., None, None].expand_as(truth)
        filled = plain.scatter(1, index, values.to(plain.dtype))
        shape = (*plain.shape[:2], arch.tubelet, arch.patch_size, arch.patch_size, arch.channels)
        columns.append(scatter_patches(filled.view(shape).permute(0, 1, 5, 2, 3, 4), arch.grid))
    length = clips.shape[2]
    shown = [0] if length == 1 else [length // 4, 3 * length // 4]
    columns = [((c - low) / (high - low).clamp(min=1e-6)).clamp(0, 1).mean(dim=1)[:, shown] for c in columns]
    return _tile([c.flatten(0, 1).cpu().numpy() for c in columns])


def _tile(columns: list[np.ndarray]) -> np.ndarray:
    count, height, width = columns[0].shape
    scale = -(-SIDE // height)
    height, width = height * scale, width * scale
    sheet = Image.new("L", (len(columns) * (width + GAP) - GAP, TITLE + count * (height + GAP) - GAP), 255)
    draw = ImageDraw.Draw(sheet)
    for c, column in enumerate(columns):
        draw.text((c * (width + GAP) + 2, 4), COLUMNS[c], fill=0, font=ImageFont.load_default(16))
        for r, picture in enumerate(column):
            shown = Image.fromarray(np.rint(picture * 255).astype(np.uint8)).resize((width, height))
            sheet.paste(shown, (c * (width + GAP), TITLE + r * (height + GAP)))
    return np.asarray(sheet)
