"""The encoder of UNet++ on MONAI's blocks: the path x_0,0 to x_4,0, without the nested decoder."""

from collections import OrderedDict

from torch import nn

WIDTHS = (32, 32, 64, 128, 256)


def unetplusplus_encoder(channels: int) -> nn.Module:
    """Return the encoder, (B, C, T, H, W) to (B, 256, T/16, H/16, W/16).

    Layers are named as in MONAI's `BasicUNetPlusPlus`.
    """
    from monai.networks.nets.basic_unet import Down, TwoConv

    block = {
        "spatial_dims": 3,
        "act": ("LeakyReLU", {"negative_slope": 0.1, "inplace": True}),
        "norm": ("instance", {"affine": True}),
        "bias": True,
    }
    layers = OrderedDict(conv_0_0=TwoConv(in_chns=channels, out_chns=WIDTHS[0], **block))
    for level in range(1, len(WIDTHS)):
        layers[f"conv_{level}_0"] = Down(in_chns=WIDTHS[level - 1], out_chns=WIDTHS[level], **block)
    return nn.Sequential(layers)
