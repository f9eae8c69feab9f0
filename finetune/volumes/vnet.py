"""The encoder of V-Net on MONAI's blocks, without the decoder."""

from collections import OrderedDict

from torch import nn

CONVOLUTIONS = {16: 1, 32: 2, 64: 3, 128: 2}


def vnet_encoder(channels: int) -> nn.Module:
    """Return the encoder, (B, C, T, H, W) to (B, 256, T/16, H/16, W/16).

    Layers are named as in MONAI's `VNet`.

    Raises:
        ValueError: `channels` does not divide 16 (the input is repeated to 16 channels and added).
    """
    from monai.networks.nets.vnet import DownTransition, InputTransition

    act = ("elu", {"inplace": True})
    layers = OrderedDict(in_tr=InputTransition(3, channels, 16, act))
    for width, count in CONVOLUTIONS.items():
        layers[f"down_tr{2 * width}"] = DownTransition(3, width, count, act)
    return nn.Sequential(layers)
