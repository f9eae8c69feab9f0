"""Weights of timm's hub, fetched only when the user asks for it."""

from pathlib import Path

from ...core.files import written_aside


def fetch(name: str, folder: Path) -> Path:
    """Return the weights of a timm network as a safetensors file in `folder`, downloaded once.

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

    from ...backbone.weights.hub import fetch_network

    network = fetch_network(f"timm:{name}")
    with written_aside(path) as aside:
        safetensors.torch.save_file(network.state_dict(), aside)
    return path
