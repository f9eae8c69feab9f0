"""Images of what pre-training has learned: original, masked and reconstructed; or where the class token looks."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..backbone.patches import as_clip, gather_patches, scatter_patches
from ..backbone.vit import ViT
from .mae import MaskedAutoencoder
from .masking import Masks

GAP, TITLE, SIDE = 8, 28, 224
COLUMNS = ("original", "visible", "reconstructed")


@torch.no_grad()
def reconstruction_sheet(mae: MaskedAutoencoder, x: Tensor, masks: Masks) -> np.ndarray:
    """Draw a row per image (of clips two frames): original, what the encoder saw, that with the rest reconstructed.

    Normalised targets are brought back with the mean and std of the true patch, so there the image shows the
    reconstructed structure on the original's own brightness.

    Args:
        mae: The model, in eval mode.
        x: (B, C, H, W) or (B, C, T, H, W) normalised.
        masks: All that is masked is to be reconstructed.

    Returns:
        (height, width) uint8, grey: three titled columns, images at least 224 px high.
    """
    arch = mae.encoder.arch
    out, masked_ids = mae(x, masks), masks.target_ids
    clips = as_clip(x)
    patches = gather_patches(clips, arch.patch_size, arch.tubelet)
    plain = patches.permute(0, 1, 3, 4, 5, 2).flatten(2, 4)
    truth = plain.gather(1, masked_ids[..., None, None].expand(-1, -1, *plain.shape[2:]))
    reconstructed = out.prediction.float().reshape(truth.shape)
    if mae.target != "pixels":
        axes = (2, 3) if mae.target == "patch" else (2,)
        reconstructed = reconstructed * truth.std(dim=axes, keepdim=True) + truth.mean(dim=axes, keepdim=True)
    low, high = (each.view(-1, 1, 1, 1, 1) for each in (clips.flatten(1).amin(dim=1), clips.flatten(1).amax(dim=1)))
    grey = (low + high)[..., 0] / 2
    columns = [clips]
    for values in (grey.expand_as(truth), reconstructed):
        index = masked_ids[..., None, None].expand_as(truth)
        filled = plain.scatter(1, index, values.to(plain.dtype))
        shape = (*plain.shape[:2], arch.tubelet, arch.patch_size, arch.patch_size, arch.channels)
        columns.append(scatter_patches(filled.view(shape).permute(0, 1, 5, 2, 3, 4), arch.grid))
    length = clips.shape[2]
    shown = [0] if length == 1 else [length // 4, 3 * length // 4]
    columns = [((c - low) / (high - low).clamp(min=1e-6)).clamp(0, 1).mean(dim=1)[:, shown] for c in columns]
    return _sheet(dict(zip(COLUMNS, (c.flatten(0, 1).cpu().numpy() for c in columns))))


@torch.no_grad()
def attention_sheet(vit: ViT, images: np.ndarray, x: Tensor) -> np.ndarray:
    """Draw a row per image: itself, the class token's attention in the last block, and the image lit by that.

    The attention is the mean of the heads. Each map is scaled to its own range.

    Args:
        vit: In eval mode.
        images: (B, C, H, W) uint8, grey or RGB.
        x: The same, normalised.

    Returns:
        (height, width, 3) uint8: three titled columns.
    """
    import cv2

    weights = vit.last_attention(x)[:, :, 0, 1 + vit.arch.registers :].float().mean(dim=1)
    height, width = images.shape[2:]
    maps = weights.unflatten(1, vit.grid_of(as_clip(x))[1:]).cpu().numpy()
    originals, heat, lit = [], [], []
    for image, small in zip(images.transpose(0, 2, 3, 1), maps):
        low, high = np.percentile(small, (1, 99))
        strength = cv2.resize(((small - low) / max(high - low, 1e-12)).clip(0, 1), (width, height)).clip(0, 1)
        colour = cv2.applyColorMap(np.rint(strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
        originals.append(np.broadcast_to(image / 255, (height, width, 3)))
        heat.append(colour[..., ::-1] / 255)
        lit.append(originals[-1] * (0.2 + 0.8 * strength[..., None]))
    titles = {"image": originals, "attention": heat, "image lit by it": lit}
    return _sheet({title: np.stack(column) for title, column in titles.items()})


@torch.no_grad()
def feature_sheet(vit: ViT, x: Tensor) -> np.ndarray:
    """Draw a row per image (of clips two times): itself, and its patch features as colours.

    Red, green and blue are the first three principal components of all patches shown: parts of one colour are alike to
    the encoder. An encoder that sees nothing gives colours that follow the position alone.

    Args:
        vit: In eval mode, with patch tokens.
        x: (B, C, H, W) or (B, C, T, H, W), normalised.

    Returns:
        (height, width, 3) uint8: two titled columns.
    """
    clips = as_clip(x)
    times, rows, columns = vit.grid_of(clips)
    shown = [0] if times == 1 else [times // 4, 3 * times // 4]
    features = vit(clips).patches.float().unflatten(1, (times, rows, columns))[:, shown].cpu()
    flat = features.flatten(0, 3)
    axes = torch.linalg.svd(flat - flat.mean(dim=0), full_matrices=False)[2][:3]
    colours = (features - flat.mean(dim=0)) @ axes.T
    low, high = colours.flatten(0, 3).quantile(torch.tensor([0.01, 0.99]), dim=0)
    colours = ((colours - low) / (high - low).clamp(min=1e-6)).clamp(0, 1).flatten(0, 1)
    frames = clips[:, :, [time * vit.arch.tubelet for time in shown]].transpose(1, 2).flatten(0, 1).cpu()
    low, high = (each.view(-1, 1, 1, 1) for each in (frames.flatten(1).amin(dim=1), frames.flatten(1).amax(dim=1)))
    frames = ((frames - low) / (high - low).clamp(min=1e-6)).permute(0, 2, 3, 1).expand(-1, -1, -1, 3)
    patch = vit.arch.patch_size
    enlarged = colours.repeat_interleave(patch, dim=1).repeat_interleave(patch, dim=2)
    return _sheet({"image": frames.numpy(), "features": enlarged.numpy()})


def _sheet(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Draw titled columns of images (B, H, W) or (B, H, W, 3) in 0..1, enlarged to at least 224 px."""
    count, height, width = next(iter(columns.values())).shape[:3]
    scale = -(-SIDE // height)
    height, width = height * scale, width * scale
    size = len(columns) * (width + GAP) - GAP, TITLE + count * (height + GAP) - GAP
    colour = next(iter(columns.values())).ndim == 4
    sheet = Image.new("RGB" if colour else "L", size, "white")
    draw = ImageDraw.Draw(sheet)
    for c, (title, column) in enumerate(columns.items()):
        draw.text((c * (width + GAP) + 2, 4), title, fill="black", font=ImageFont.load_default(16))
        for r, image in enumerate(column):
            shown = Image.fromarray(np.rint(image * 255).astype(np.uint8)).resize((width, height))
            sheet.paste(shown, (c * (width + GAP), TITLE + r * (height + GAP)))
    return np.asarray(sheet)
