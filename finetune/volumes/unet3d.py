"""The encoder of the 3-D U-Net: GroupNorm, convolution, ReLU, twice per level, max-pooling between levels."""

from collections import OrderedDict

from torch import nn

WIDTHS = (64, 128, 256, 512, 768)
GROUPS = 8


def unet3d_encoder(channels: int) -> nn.Module:
    """Return the encoder, (B, C, T, H, W) to (B, 768, T/16, H/16, W/16).

    Layers are named as in the paper's code (after pytorch-3dunet).
    """
    levels, before = [], channels
    for number, width in enumerate(WIDTHS):
        level = OrderedDict(basic_module=_double_conv(before, width))
        if number:
            level = OrderedDict(pooling=nn.MaxPool3d(2), **level)
        levels.append(nn.Sequential(level))
        before = width
    return nn.Sequential(OrderedDict(encoder=nn.Sequential(*levels)))


def _double_conv(before: int, width: int) -> nn.Module:
    middle = max(width // 2, before)
    return nn.Sequential(
        OrderedDict(SingleConv1=_single_conv(before, middle), SingleConv2=_single_conv(middle, width)),
    )


def _single_conv(before: int, width: int) -> nn.Module:
    groups = GROUPS if before >= GROUPS else 1
    return nn.Sequential(
        OrderedDict(
            groupnorm=nn.GroupNorm(groups, before),
            conv=nn.Conv3d(before, width, 3, padding=1, bias=False),
            ReLU=nn.ReLU(inplace=True),
        )
    )
