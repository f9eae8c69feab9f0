"""Weights of timm's hub, fetched only when the user asks for it."""

import os
from pathlib import Path

from ...errors import UserError
from ...files import written_aside


def fetch(name: str, folder: Path) -> Path:
    """The weights of a timm network as a safetensors file in `folder`, fetched once.

    Args:
        name: timm's name with its weights, such as `densenet121.tv_in1k`.
        folder: Where to keep them.

    Raises:
        UserError: They cannot be had.
    """
    path = folder / f"{name}.safetensors"
    if path.is_file():
        return path
    import safetensors.torch
    import timm

    # Older timm asks for whole pickles in some paths; nothing in a weight file may run.
    os.environ.setdefault("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:  # The hub's client raises a dozen kinds, all of which mean the same here.
        raise UserError(
            f"timm:{name}: the weights could not be had ({' '.join(str(error).split())[:200]}). Without a network, "
            "give a checkpoint file with --weights."
        ) from None
    with written_aside(path) as aside:
        safetensors.torch.save_file(network.state_dict(), aside)
    return path
